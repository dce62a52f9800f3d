//! Our own: `.flow` text through the compiler to a plan, and its program over batches.

use std::collections::BTreeMap;

use flow_agent::Registry;
use flow_check::{Imports, Library, Options};
use flow_diag::{Files, Format, Severity};
use flow_jit::JitCompiler;
use flow_plan::batch::{ARENA_PADDING, Arena, Columns, Range};
use flow_plan::exec::{Executor, Natives, Outputs};
use flow_plan::plan::Target;
use flow_plan::{Batch, Plan, Slot, native};

use crate::answers::Answer;
use crate::measure::{Contender, Named};
use crate::patterns::ROUTES;
use crate::rows::{Data, Rows};

/// When the programs run, in milliseconds since 1970 UTC.
const NOW_MS: i64 = 1_795_392_000_000;

/// How a program of a plan is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// By `flow_plan` alone.
    Reference,
    /// By generated code, where there is some.
    Native,
}

impl Engine {
    pub const ALL: [Engine; 2] = [Engine::Reference, Engine::Native];

    pub fn name(self) -> &'static str {
        match self {
            Engine::Reference => "ours, reference",
            Engine::Native => "ours, native",
        }
    }
}

/// What reads programs: the library of this build.
pub struct Compiler {
    library: Library,
    registry: Registry,
}

impl Compiler {
    pub fn new() -> Compiler {
        let registry = flow_stdlib::registry();
        let declarations = flow_stdlib::DECLARATIONS.iter().copied();
        let (library, files, diagnostics) =
            Library::from_declarations(declarations, registry.functions.clone());
        assert!(diagnostics.is_empty(), "{}", flow_diag::render(&files, &diagnostics, Format::Short));
        Compiler { library, registry }
    }

    /// Text to plan.
    ///
    /// # Panics
    ///
    /// When the text has an error.
    pub fn plan(&self, text: &str) -> Plan {
        let mut files = Files::new();
        let root = files.add("bench.flow", text);
        let checked = flow_check::check(root, &mut files, &mut NoImports, &self.library, &Options::default());
        let errors: Vec<_> =
            checked.diagnostics.into_iter().filter(|one| one.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{text}\n{}", flow_diag::render(&files, &errors, Format::Short));
        checked.plan.expect("a program without errors has a plan")
    }

    /// Plan to the program of its only source, ready to run. This is where engines differ, and nowhere else.
    pub fn executor(&self, plan: &Plan, engine: Engine) -> Executor {
        let agent = &plan.agents[0];
        let program = &agent.programs[agent.sources[0].program as usize];
        let Registry { functions, interceptors, .. } = &self.registry;
        // A new one knows nothing that was compiled before.
        let machine_code = JitCompiler::new();
        let compiler = (engine == Engine::Native).then_some(&machine_code as &dyn native::Compiler);
        let built =
            Executor::with_natives(plan, program, functions, interceptors, compiler, &Natives::new(), false);
        built.unwrap_or_else(|error| panic!("{error}"))
    }
}

struct NoImports;

impl Imports for NoImports {
    fn read(&mut self, _: &str, path: &str) -> Result<(String, String), String> {
        Err(format!("`{path}`: there are no imports here"))
    }
}

/// The program: what stands between the source and the places `r0`, `r1`, …
pub struct Flow<'t> {
    /// Interceptor declarations.
    pub items: &'t str,
    /// From behind `log ->` to the end of the chain.
    pub chain: &'t str,
    /// Headers whose texts are answers.
    pub fields: &'t [&'t str],
    /// The time of the event is an answer.
    pub time: bool,
}

impl Flow<'_> {
    pub fn text(&self) -> String {
        let mut text = format!("source log = stdin\n{}\nlog -> {}\n", self.items, self.chain);
        for route in 0..ROUTES {
            // A channel that nothing reaches would be reported.
            if self.chain.contains(&format!("r{route}")) {
                text += &format!("channel r{route} = memory\nr{route} -> discard\n");
            }
        }
        text
    }

    /// A contender for each engine.
    pub fn contenders<'d>(&self, data: &'d Data) -> Vec<Named<'d>> {
        let compiler = Compiler::new();
        let plan = compiler.plan(&self.text());
        let each = Engine::ALL.into_iter();
        each.map(|engine| (engine.name(), self.contender(&compiler, &plan, engine, data))).collect()
    }

    fn contender<'d>(
        &self,
        compiler: &Compiler,
        plan: &Plan,
        engine: Engine,
        data: &'d Data,
    ) -> Box<dyn Contender + 'd> {
        let slot = |name: &&str| {
            let slot = plan.slots.iter().position(|slot| slot == name);
            Slot(slot.unwrap_or_else(|| panic!("no header `{name}` in the plan")) as u32)
        };
        let agent = &plan.agents[0];
        let outputs = agent.programs[agent.sources[0].program as usize].outputs.iter();
        let routes = outputs.map(|output| match output.to {
            Target::Channel(channel) => {
                let name = &agent.channels[channel as usize].name;
                name.trim_start_matches('r').parse().expect("the channels are called r0, r1, …")
            }
            Target::Sink(_) => panic!("all end in channels"),
        });
        Box::new(Ours {
            executor: compiler.executor(plan, engine),
            data,
            fields: self.fields.iter().map(slot).collect(),
            time: self.time,
            routes: routes.collect(),
            batches: Vec::new(),
            outputs: data.batches.iter().map(|_| Outputs::new()).collect(),
        })
    }
}

struct Ours<'d> {
    executor: Executor,
    data: &'d Data,
    fields: Vec<Slot>,
    time: bool,
    /// By output.
    routes: Vec<usize>,
    batches: Vec<Batch>,
    /// By batch.
    outputs: Vec<Outputs>,
}

impl Contender for Ours<'_> {
    fn prepare(&mut self) {
        self.outputs.iter_mut().for_each(Outputs::clear);
        self.batches.clear();
        self.batches.extend(self.data.batches.iter().map(batch_of));
    }

    fn run(&mut self) {
        for (batch, outputs) in self.batches.drain(..).zip(&mut self.outputs) {
            self.executor.run(batch, NOW_MS, outputs);
        }
    }

    fn answers(&self) -> Vec<Answer> {
        let mut answers = BTreeMap::new();
        for (number, outputs) in self.outputs.iter().enumerate() {
            let dead = outputs.dead.first().map(|dead| &dead.reasons);
            assert!(dead.is_none(), "a row failed: {dead:?}");
            for (batches, &route) in outputs.batches.iter().zip(&self.routes) {
                for batch in batches {
                    for &row in &batch.rows {
                        let field = |slot: &Slot| batch.header(row, *slot).unwrap_or_default().to_vec();
                        let answer = Answer {
                            batch: number,
                            row,
                            route,
                            time_ms: self.time.then(|| batch.time_ms(row)),
                            fields: self.fields.iter().map(field).collect(),
                        };
                        let twice = answers.insert((number, row), answer);
                        assert!(twice.is_none(), "row {row} went to two places");
                    }
                }
            }
        }
        answers.into_values().collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for report in self.executor.reports() {
            let ms = report.compile_time.as_secs_f64() * 1e3;
            notes.push(format!("{} bytes of code in {ms:.1} ms", report.code_bytes));
            for part in &report.parts {
                let word = if part.native { "in part" } else { "not native" };
                notes.extend(part.reference.iter().map(|why| format!("`{}` {word}: {why}", part.name)));
            }
        }
        notes
    }
}

/// A batch as a source makes it of a read buffer.
fn batch_of(rows: &Rows) -> Batch {
    let text = rows.text.as_bytes();
    let mut bytes = Arena::buffer(text.len(), ARENA_PADDING);
    bytes.copy_from_slice(text);
    let arena = Arena::from_vec(bytes).expect("a few hundred KB");
    let mut columns = Columns { arena, source: "log".into(), ..Columns::default() };
    for &(start, end) in &rows.spans {
        columns.push_range(Range::new(start as usize, (end - start) as usize), NOW_MS);
    }
    Batch::new(columns)
}
