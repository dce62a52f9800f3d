//! Random programs as people write them: filters, extractions with types, code, functions, routes. What comes out is
//! text for the checker; nearly all of it is right.

use std::fmt::Write as _;

use super::bytes::Bytes;
use super::exprs::{Exprs, Function, HEADERS, RECORD, REGEXES, Scope, Type};

/// The deepest expressions.
const DEPTH_MAX: u32 = 3;

/// Statements of one program.
const STATEMENTS_MAX: usize = 40;

/// Regexes with named groups, and what each group can be converted to.
const EXTRACTIONS: [(&str, &[(&str, &str)]); 9] = [
    (
        r#"/^(?<ip>\S+) \S+ (?<x>\S+) \[(?<when>[^\]]+)\] "(?<verb>[A-Z]+) (?<kind>\S+) [^"]*" (?<status>\d{3}) (?<size>\d+|-)/"#,
        &[("status", "int"), ("when", "time(\"%d/%b/%Y:%H:%M:%S %z\")"), ("verb", "lower"), ("size", "int")],
    ),
    (r"/^(?<status>-?\d+)/", &[("status", "int")]),
    (r"/(?<verb>GET|POST)? ?(?<kind>\/\S*)/", &[("kind", "url_decode"), ("verb", "lower")]),
    (r"/(?<when>\d{4}-\d\d-\d\d)/", &[("when", "time(\"%Y-%m-%d\")")]),
    (r"/(?<x>[^,]*),(?<kind>.*)$/", &[("x", "trim"), ("kind", "upper")]),
    (r"/(?<size>[0-9.eE+-]+)/", &[("size", "float")]),
    (r"/(?<ip>\w+)é?(?<host>\w*)/", &[]),
    (r"/(?<kind>true|false|yes|1|0)/", &[("kind", "bool")]),
    (r"/^(?:(?<x>a+)|(?<kind>b+)|(?<host>.)){1,3}/", &[]),
];

/// A program whose only source is called `web`.
pub fn program(bytes: &mut Bytes<'_>) -> String {
    let mut flow = Flow {
        bytes,
        text: String::from("source web = http \":8080\" { format: lines }\n"),
        functions: Vec::new(),
        names: 0,
        statements: 0,
        uses_c1: false,
    };
    flow.text += RECORD;
    for _ in 0..flow.bytes.below(4) {
        flow.function();
    }
    let mut chain = String::from("web");
    for number in 0..1 + flow.bytes.below(5) {
        let name = format!("s{number}");
        flow.step(&name);
        chain += &format!(" -> {name}");
        if flow.bytes.rarely(3) {
            flow.uses_c1 = true;
            let _ = writeln!(flow.text, "{name}.errors -> c1");
        }
    }
    let end = flow.end();
    let mut text = flow.text;
    let _ = writeln!(text, "{chain} -> {end}");
    text += "channel c0 = memory\nc0 -> discard\n";
    if flow.uses_c1 {
        text += "channel c1 = memory\nc1 -> discard\n";
    }
    text
}

struct Flow<'b, 'a> {
    bytes: &'b mut Bytes<'a>,
    text: String,
    functions: Vec<Function>,
    names: usize,
    statements: usize,
    uses_c1: bool,
}

impl Flow<'_, '_> {
    fn expr(&mut self, ty: Type, scope: &Scope) -> String {
        let depth = self.bytes.below(DEPTH_MAX as usize + 1) as u32;
        Exprs { bytes: self.bytes, functions: &self.functions, scope }.of(ty, depth)
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    fn ty(&mut self) -> Type {
        self.bytes.pick(&Type::ALL)
    }

    /// A function with locals, branches and early returns.
    fn function(&mut self) {
        let name = format!("f{}", self.functions.len());
        let answer = self.ty();
        let params: Vec<Type> = (0..1 + self.bytes.below(3)).map(|_| self.ty()).collect();
        let mut scope = Scope { pure: true, ..Scope::default() };
        let mut head = Vec::new();
        for (number, ty) in params.iter().enumerate() {
            head.push(format!("p{number}: {}", ty.name()));
            scope.locals.push((format!("p{number}"), *ty));
        }
        let mut body = String::new();
        for _ in 0..self.bytes.below(3) {
            match self.bytes.below(3) {
                0 => {
                    let (name, ty) = (self.name(), self.ty());
                    let value = self.expr(ty, &scope);
                    let _ = writeln!(body, "  let {name} = {value}");
                    scope.locals.push((name, ty));
                }
                1 => {
                    let condition = self.expr(Type::Bool, &scope);
                    let value = self.expr(answer, &scope);
                    let _ = writeln!(body, "  if {condition} {{ return {value} }}");
                }
                _ => {
                    let (condition, one, other) =
                        (self.expr(Type::Bool, &scope), self.expr(answer, &scope), self.expr(answer, &scope));
                    let name = self.name();
                    let _ = writeln!(
                        body,
                        "  let {name} = {one}\n  if {condition} {{\n    {name} = {other}\n  }} else {{\n    return {name}\n  }}"
                    );
                    scope.locals.push((name, answer));
                }
            }
        }
        let value = self.expr(answer, &scope);
        let _ = writeln!(
            self.text,
            "fn {name}({}) -> {} {{\n{body}  return {value}\n}}",
            head.join(", "),
            answer.name()
        );
        self.functions.push(Function { name, params, answer });
    }

    fn step(&mut self, name: &str) {
        let event = Scope::default();
        let step = match self.bytes.below(14) {
            0..=4 => return self.code(name),
            5 | 6 => {
                let include = self.bytes.pick(&REGEXES);
                match self.bytes.below(4) {
                    0 => format!("filter {include}"),
                    1 => format!("filter {{ exclude: [{include}, {}] }}", self.bytes.pick(&REGEXES)),
                    2 => {
                        let header = self.bytes.pick(&HEADERS);
                        format!(
                            "filter {include} {{ on: header.{header}, exclude: {} }}",
                            self.bytes.pick(&REGEXES)
                        )
                    }
                    _ => {
                        let condition = self.expr(Type::Bool, &event);
                        format!("filter {{ when: {condition} }}")
                    }
                }
            }
            7..=9 => self.extract(),
            10 => {
                let on_miss = self.bytes.pick(&["fail", "pass", "drop"]);
                match self.bytes.below(3) {
                    0 => "timestamp".into(),
                    1 => format!(
                        "timestamp {{ from: header.when, format: \"%d/%b/%Y:%H:%M:%S %z\", on_miss: {on_miss} }}"
                    ),
                    _ => "timestamp { header: \"when\", header_format: \"%FT%T%.3fZ\", keep: true }".into(),
                }
            }
            11 => {
                let template =
                    Exprs { bytes: self.bytes, functions: &self.functions, scope: &event }.template(1);
                let word = self.bytes.pick(&["tag", "static"]);
                let keep = self.bytes.pick(&["true", "false"]);
                format!("{word} {{ keep: {keep}, kind: {template}, host: \"web-1\" }}")
            }
            12 => {
                let header = self.bytes.pick(&["", ", header: \"kind\"", ", first: true"]);
                format!("search_replace {} {{ with: '<$0>'{header} }}", self.bytes.pick(&REGEXES))
            }
            _ => self
                .bytes
                .pick(&[
                    "host",
                    "remove_header [\"x\", \"kind\"]",
                    "remove_header { matching: /^s/ }",
                    "rename_header \"x\" { to: \"kind\" }",
                    "truncate 10B { suffix: \"…\", mark: \"x\" }",
                    "dedupe { by: header.x }",
                ])
                .into(),
        };
        let _ = writeln!(self.text, "interceptor {name} = {step}");
    }

    fn extract(&mut self) -> String {
        let (pattern, groups) = EXTRACTIONS[self.bytes.below(EXTRACTIONS.len())];
        let mut types = Vec::new();
        for (group, ty) in groups {
            match self.bytes.below(4) {
                0 | 1 => types.push(format!("{group}: {ty}")),
                2 => types.push(format!(
                    "{group}: {}",
                    self.bytes.pick(&["int", "float", "lower", "trim", "bool"])
                )),
                _ => {}
            }
        }
        let mut settings = vec![format!("types: {{ {} }}", types.join(", "))];
        if types.is_empty() {
            settings.clear();
        }
        settings.push(format!("on_miss: {}", self.bytes.pick(&["drop", "pass", "fail"])));
        if self.bytes.rarely(4) {
            settings.push(format!("on: header.{}", self.bytes.pick(&HEADERS)));
        }
        format!("extract {pattern} {{ {} }}", settings.join(", "))
    }

    fn code(&mut self, name: &str) {
        let mut scope = Scope::default();
        let mut body = String::new();
        for _ in 0..1 + self.bytes.below(5) {
            self.statement(&mut scope, &mut body, 1);
        }
        let _ = writeln!(self.text, "interceptor {name} {{\n{body}}}");
    }

    fn block(&mut self, scope: &Scope, depth: usize) -> String {
        let (mut inner, mut body) = (scope.clone(), String::new());
        for _ in 0..1 + self.bytes.below(2) {
            self.statement(&mut inner, &mut body, depth + 1);
        }
        let indent = "  ".repeat(depth);
        format!("{{\n{body}{indent}}}")
    }

    fn statement(&mut self, scope: &mut Scope, body: &mut String, depth: usize) {
        self.statements += 1;
        let indent = "  ".repeat(depth);
        let header = self.bytes.pick(&HEADERS);
        let limit = if depth > 3 || self.statements > STATEMENTS_MAX { 9 } else { 19 };
        let line = match self.bytes.below(limit) {
            0..=3 => format!("header.{header} = {}", self.expr(Type::Text, scope)),
            4 => format!("header.{header} = header.{}", self.bytes.pick(&HEADERS)),
            5 => format!("body = {}", self.expr(Type::Text, scope)),
            6 => format!("time = {}", self.expr(Type::Time, scope)),
            7 => format!("remove header.{header}"),
            8 => format!("header.{header} = text(int(header.{}))", self.bytes.pick(&HEADERS)),
            9 | 10 => {
                let (name, ty) = (self.name(), self.ty());
                let value = self.expr(ty, scope);
                scope.locals.push((name.clone(), ty));
                format!("let {name} = {value}")
            }
            11 => {
                let (name, text) = (self.name(), self.expr(Type::Text, scope));
                let convert = self.bytes.pick(&["int", "float"]);
                let fallback = self.bytes.pick(&["drop", "pass", "fail \"no number\"", "fail body"]);
                scope.locals.push((name.clone(), if convert == "int" { Type::Int } else { Type::Float }));
                format!("let {name} = {convert}({text}) else {fallback}")
            }
            12 => {
                let name = self.name();
                let fallback = self.bytes.pick(&["drop", "pass", "fail \"no record\""]);
                scope.records.push(name.clone());
                format!("let {name}: Rec = json(body) else {fallback}")
            }
            13 => match scope.locals.last().cloned() {
                Some((name, ty)) => format!("{name} = {}", self.expr(ty, scope)),
                None => "header.x = \"none\"".into(),
            },
            14 | 15 => {
                let condition = self.expr(Type::Bool, scope);
                let then = self.block(scope, depth);
                if self.bytes.below(2) == 0 {
                    format!("if {condition} {then}")
                } else {
                    format!("if {condition} {then} else {}", self.block(scope, depth))
                }
            }
            16 => {
                let condition = self.expr(Type::Bool, scope);
                let what = match self.bytes.below(5) {
                    0 => "drop".into(),
                    1 => "pass".into(),
                    2 => format!("fail {}", self.expr(Type::Text, scope)),
                    3 => "emit { body: \"more\", header.x: header.kind ?? \"none\" }".into(),
                    _ => "fail".to_owned(),
                };
                format!("if {condition} {{ {what} }}")
            }
            17 => {
                let regex = self.bytes.pick(&REGEXES);
                let (one, other) = (self.block(scope, depth), self.block(scope, depth));
                format!(
                    "match header.{header} {{\n{indent}\"a\" | \"200\" -> {one}\n{indent}{regex} -> {other}\n\
                     {indent}null -> {{ header.x = \"null\" }}\n{indent}else -> {{ header.x = \"else\" }}\n{indent}}}"
                )
            }
            _ => {
                let name = self.name();
                let list = self.expr(Type::Text, scope);
                format!("let {name} = 0\n{indent}for _i in split({list}, \" \") {{ {name} += 1 }}")
            }
        };
        let _ = writeln!(body, "{indent}{line}");
    }

    /// Where the chain ends.
    fn end(&mut self) -> String {
        let event = Scope::default();
        let all = if self.bytes.rarely(3) { "all " } else { "" };
        let (subject, cases) = match self.bytes.below(6) {
            0 => return "c0".into(),
            1 => {
                let header = self.bytes.pick(&HEADERS);
                (
                    [format!("int(header.{header})"), format!("(int(header.{header}) else 0)")]
                        [self.bytes.below(2)]
                    .clone(),
                    self.ranges(),
                )
            }
            2 => (format!("header.{}", self.bytes.pick(&HEADERS)), self.texts()),
            3 => (format!("header.{}", self.bytes.pick(&HEADERS)), self.patterns()),
            4 => ("body".into(), self.patterns()),
            _ => {
                let cases = (0..1 + self.bytes.below(4))
                    .map(|_| format!("when {}", self.expr(Type::Bool, &event)))
                    .collect();
                (String::new(), cases)
            }
        };
        let mut text = format!("route {all}{subject} {{\n");
        for case in cases {
            let target = self.target(&event);
            let _ = writeln!(text, "  {case} -> {target}");
        }
        let otherwise = self.target(&event);
        text + "  else -> " + &otherwise + "\n}"
    }

    fn target(&mut self, event: &Scope) -> String {
        match self.bytes.below(6) {
            0 | 1 => "c0".into(),
            2 => "discard".into(),
            3 => {
                self.uses_c1 = true;
                "[c0, c1]".into()
            }
            4 => {
                let template =
                    Exprs { bytes: self.bytes, functions: &self.functions, scope: event }.template(1);
                format!("tag {{ x: {template} }} -> c0")
            }
            _ => {
                self.uses_c1 = true;
                "c1".into()
            }
        }
    }

    fn ranges(&mut self) -> Vec<String> {
        let all = ["200..299", "300..399", "404", "400..403", "500..599", "-7", "0..9", "-100..-50"];
        let count = 2 + self.bytes.below(all.len() - 1);
        all[..count].iter().map(|case| (*case).to_owned()).collect()
    }

    fn texts(&mut self) -> Vec<String> {
        let known = ["a", "GET", "200", "404", "", "é", "b", "POST"];
        let count = 2 + self.bytes.below(60);
        let text = |number: usize| match known.get(number) {
            Some(known) => format!("\"{known}\""),
            None => format!("\"case-{number}\""),
        };
        (0..count).map(text).collect()
    }

    /// Two to forty different patterns.
    fn patterns(&mut self) -> Vec<String> {
        let count = 2 + self.bytes.below(39);
        let start = self.bytes.below(REGEXES.len());
        let pattern = |number: usize| match REGEXES.get(start + number) {
            Some(known) => (*known).to_owned(),
            None => format!("/^\\S*case{number}[a-f]?/"),
        };
        (0..count).map(pattern).collect()
    }
}
