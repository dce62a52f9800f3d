//! A host for generated code: functions are defined one by one, may call one another and use constant tables, and
//! become one piece of executable memory that is freed with its owner. It knows Cranelift and nothing of what the
//! functions compute; whatever goes wrong inside Cranelift, a panic among it, is an error value here.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cranelift_codegen::ir::{AbiParam, FuncRef, InstBuilder, Signature, Type, UserFuncName, Value, types};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
pub use cranelift_module::FuncId;
use cranelift_module::{Linkage, Module, default_libcall_names};

/// Machine code and constants of one [`Code`], in bytes: far more than any program of reasonable size.
pub const CODE_BYTES_MAX: usize = 16 << 20;
/// Instructions of Cranelift's language in one function: bounds the time of its compilation to about a second.
pub const INSTRUCTIONS_MAX: usize = 200_000;
/// Set to anything but `0` or nothing, it has the verifier check all generated code in release builds too.
pub const VERIFY_VARIABLE: &str = "FLOW_JIT_VERIFY";

/// How code is generated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether Cranelift's verifier checks every function.
    pub verify: bool,
    /// Leave out what only this kind of processor has (on x86-64: AVX and its successors), as a test of the rest.
    pub baseline: bool,
    /// More machine code and constants than this are refused.
    pub code_bytes_max: usize,
    /// More instructions in one function are refused, before any is compiled.
    pub instructions_max: usize,
}

impl Default for Settings {
    /// The bounds above; the verifier in debug builds and where [`VERIFY_VARIABLE`] asks for it.
    fn default() -> Settings {
        let asked = std::env::var_os(VERIFY_VARIABLE).is_some_and(|value| !value.is_empty() && value != "0");
        Settings {
            verify: cfg!(debug_assertions) || asked,
            baseline: false,
            code_bytes_max: CODE_BYTES_MAX,
            instructions_max: INSTRUCTIONS_MAX,
        }
    }
}

/// Why there is no code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeError {
    /// Code cannot be generated for this machine.
    Host(String),
    /// More than a bound allows: what, and the bound.
    TooLarge(&'static str, usize),
    /// A function was declared and called, but never defined.
    Undefined(String),
    /// Cranelift refuses the function of this name.
    Refused(String, String),
    /// Cranelift panicked: a fault in it or in the caller, which must not end the process.
    Panicked(String),
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodeError::Host(message) => write!(f, "no code can be generated for this machine: {message}"),
            CodeError::TooLarge(what, max) => write!(f, "the code needs more than {max} {what}"),
            CodeError::Undefined(name) => write!(f, "the function `{name}` is called but not defined"),
            CodeError::Refused(name, message) => {
                write!(f, "the function `{name}` cannot be compiled: {message}")
            }
            CodeError::Panicked(message) => write!(f, "the code generator failed: {message}"),
        }
    }
}

impl std::error::Error for CodeError {}

/// Collects functions until [`CodeBuilder::finish`].
pub struct CodeBuilder {
    memory: Memory,
    context: cranelift_codegen::Context,
    functions: FunctionBuilderContext,
    settings: Settings,
    declared: HashMap<FuncId, String>,
    defined: HashSet<FuncId>,
    /// What the functions so far call.
    called: HashSet<FuncId>,
    constants: Constants,
    code_bytes: usize,
    /// The first panic: nothing that Cranelift holds can be trusted after it.
    panicked: Option<String>,
}

impl CodeBuilder {
    /// A builder for this machine, with all it offers (SIMD among it) unless `settings` say otherwise.
    pub fn new(settings: &Settings) -> Result<CodeBuilder, CodeError> {
        let memory = guarded(|| open_module(settings))??;
        Ok(CodeBuilder {
            memory,
            context: cranelift_codegen::Context::new(),
            functions: FunctionBuilderContext::new(),
            settings: settings.clone(),
            declared: HashMap::new(),
            defined: HashSet::new(),
            called: HashSet::new(),
            constants: Constants::default(),
            code_bytes: 0,
            panicked: None,
        })
    }

    /// A signature in the C convention of this machine. Pointers are [`types::I64`].
    pub fn signature(&self, params: &[Type], returns: &[Type]) -> Signature {
        let mut signature = Signature::new(self.memory.module().isa().default_call_conv());
        signature.params.extend(params.iter().map(|ty| AbiParam::new(*ty)));
        signature.returns.extend(returns.iter().map(|ty| AbiParam::new(*ty)));
        signature
    }

    /// Makes a function known so that others can call it before it is defined. Names are unique in a builder.
    pub fn declare(&mut self, name: &str, signature: &Signature) -> Result<FuncId, CodeError> {
        self.check_usable()?;
        let module = self.memory.module_mut();
        let id = guarded(|| {
            let id = module.declare_function(name, Linkage::Local, signature);
            id.map_err(|error| refused(name, &error))
        });
        let id = id.map_err(|error| self.note(error))??;
        self.declared.entry(id).or_insert_with(|| name.to_owned());
        Ok(id)
    }

    /// Declares and defines a function. `body` makes the entry block and everything after it; blocks are sealed
    /// here. After an error other than a panic the builder can be used on, without that function.
    pub fn define<F>(&mut self, name: &str, signature: &Signature, body: F) -> Result<FuncId, CodeError>
    where
        F: FnOnce(&mut FunctionBuilder<'_>, &mut Scope<'_>) -> Result<(), CodeError>,
    {
        let id = self.declare(name, signature)?;
        self.define_declared(id, signature, body)?;
        Ok(id)
    }

    /// Defines a function declared before, see [`CodeBuilder::define`].
    pub fn define_declared<F>(&mut self, id: FuncId, signature: &Signature, body: F) -> Result<(), CodeError>
    where
        F: FnOnce(&mut FunctionBuilder<'_>, &mut Scope<'_>) -> Result<(), CodeError>,
    {
        self.check_usable()?;
        let name = self.declared.get(&id).cloned().unwrap_or_else(|| id.to_string());
        let result = guarded(|| self.build_function(id, &name, signature, body));
        let result = result.map_err(|error| self.note(error)).and_then(|result| result);
        if result.is_err() {
            // They may hold half a function.
            self.context = cranelift_codegen::Context::new();
            self.functions = FunctionBuilderContext::new();
        } else {
            self.defined.insert(id);
        }
        result
    }

    fn build_function<F>(
        &mut self,
        id: FuncId,
        name: &str,
        signature: &Signature,
        body: F,
    ) -> Result<(), CodeError>
    where
        F: FnOnce(&mut FunctionBuilder<'_>, &mut Scope<'_>) -> Result<(), CodeError>,
    {
        let module = self.memory.module_mut();
        module.clear_context(&mut self.context);
        self.context.func.signature = signature.clone();
        self.context.func.name = UserFuncName::user(0, id.as_u32());
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.functions);
        let mut scope = Scope { module, constants: &mut self.constants, called: Vec::new() };
        body(&mut builder, &mut scope)?;
        let called = scope.called;
        builder.seal_all_blocks();
        builder.finalize(module.target_config());
        if self.context.func.dfg.num_insts() > self.settings.instructions_max {
            return Err(CodeError::TooLarge("instructions", self.settings.instructions_max));
        }
        module.define_function(id, &mut self.context).map_err(|error| refused(name, &error))?;
        self.called.extend(called);
        self.code_bytes += self.context.compiled_code().map_or(0, |code| code.code_buffer().len());
        if self.code_bytes + self.constants.bytes > self.settings.code_bytes_max {
            return Err(CodeError::TooLarge("bytes", self.settings.code_bytes_max));
        }
        Ok(())
    }

    /// Machine code and constants so far, in bytes.
    pub fn code_bytes(&self) -> usize {
        self.code_bytes + self.constants.bytes
    }

    /// Makes everything executable (and no longer writable). Functions that were declared and never called need no
    /// definition.
    pub fn finish(mut self) -> Result<Code, CodeError> {
        self.check_usable()?;
        if let Some(id) = self.called.difference(&self.defined).next() {
            return Err(CodeError::Undefined(
                self.declared.get(id).cloned().unwrap_or_else(|| id.to_string()),
            ));
        }
        let module = self.memory.module_mut();
        let defined = &self.defined;
        let pointers = guarded(|| {
            module.finalize_definitions().map_err(|error| refused("all", &error))?;
            Ok(defined.iter().map(|id| (*id, module.get_finalized_function(*id) as usize)).collect())
        })??;
        Ok(Code { pointers, code_bytes: self.code_bytes(), _memory: self.memory, _constants: self.constants })
    }

    fn check_usable(&self) -> Result<(), CodeError> {
        match &self.panicked {
            Some(message) => Err(CodeError::Panicked(message.clone())),
            None => Ok(()),
        }
    }

    fn note(&mut self, error: CodeError) -> CodeError {
        if let CodeError::Panicked(message) = &error {
            self.panicked = Some(message.clone());
        }
        error
    }
}

/// What the body of a function can refer to.
pub struct Scope<'a> {
    module: &'a mut JITModule,
    constants: &'a mut Constants,
    called: Vec<FuncId>,
}

impl Scope<'_> {
    /// For calls of another function of the same builder.
    pub fn function(&mut self, builder: &mut FunctionBuilder<'_>, id: FuncId) -> FuncRef {
        self.called.push(id);
        self.module.declare_func_in_func(id, builder.func)
    }

    /// The address of a copy of `bytes` that lives as long as the code does, aligned to 64 bytes. Equal constants
    /// share one copy.
    pub fn constant(&mut self, builder: &mut FunctionBuilder<'_>, bytes: &[u8]) -> Value {
        let address = self.constants.keep(bytes);
        builder.ins().iconst(types::I64, address as i64)
    }
}

/// Executable functions. The memory is freed when this is dropped.
pub struct Code {
    pointers: HashMap<FuncId, usize>,
    code_bytes: usize,
    _memory: Memory,
    _constants: Constants,
}

// SAFETY: after `finish` nothing of the module is used until it is freed, by the one owner; the code and its
// constants are never written again, and whoever calls the code answers for the memory it is given.
unsafe impl Sync for Code {}

impl Code {
    /// The function, to be turned into the `extern "C" fn` of its signature. It must not be called after `self` is
    /// dropped. `None` if `id` is of another builder.
    pub fn pointer(&self, id: FuncId) -> Option<*const u8> {
        self.pointers.get(&id).map(|address| *address as *const u8)
    }

    /// Machine code and constants, in bytes.
    pub fn code_bytes(&self) -> usize {
        self.code_bytes
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} functions, {} bytes)", self.pointers.len(), self.code_bytes)
    }
}

/// The memory of a module, which Cranelift leaks unless told to free it.
struct Memory(Option<JITModule>);

impl Memory {
    fn module(&self) -> &JITModule {
        self.0.as_ref().expect("the module is there until it is dropped")
    }

    fn module_mut(&mut self) -> &mut JITModule {
        self.0.as_mut().expect("the module is there until it is dropped")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(module) = self.0.take() {
            // SAFETY: pointers into the module are only handed out by `Code`, whose contract ends with this drop.
            unsafe { module.free_memory() };
        }
    }
}

/// Tables that generated code reads.
#[derive(Default)]
struct Constants {
    tables: HashMap<Vec<u8>, Box<[Line]>>,
    bytes: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Constants {
    fn keep(&mut self, bytes: &[u8]) -> usize {
        if let Some(table) = self.tables.get(bytes) {
            return table.as_ptr() as usize;
        }
        let mut table = vec![Line([0; 64]); bytes.len().div_ceil(64).max(1)].into_boxed_slice();
        for (line, chunk) in table.iter_mut().zip(bytes.chunks(64)) {
            line.0[..chunk.len()].copy_from_slice(chunk);
        }
        let address = table.as_ptr() as usize;
        self.bytes += table.len() * 64;
        self.tables.insert(bytes.to_vec(), table);
        address
    }
}

fn open_module(settings: &Settings) -> Result<Memory, CodeError> {
    let host = |error: &dyn fmt::Display| CodeError::Host(error.to_string());
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", "speed"),
        ("is_pic", "false"),
        // Library functions may be further away than a short call reaches.
        ("use_colocated_libcalls", "false"),
        ("enable_verifier", if settings.verify { "true" } else { "false" }),
    ] {
        flags.set(name, value).map_err(|error| host(&error))?;
    }
    if cfg!(target_endian = "big") {
        return Err(host(&"its words are big-endian"));
    }
    let mut isa = cranelift_native::builder().map_err(|error| host(&error))?;
    if settings.baseline && cfg!(target_arch = "x86_64") {
        for name in ["has_avx", "has_avx2", "has_fma", "has_bmi1", "has_bmi2", "has_lzcnt", "has_popcnt"] {
            isa.set(name, "false").map_err(|error| host(&error))?;
        }
    }
    let isa = isa.finish(settings::Flags::new(flags)).map_err(|error| host(&error))?;
    let builder = JITBuilder::with_isa(isa, default_libcall_names());
    Ok(Memory(Some(JITModule::new(builder))))
}

fn refused(name: &str, error: &dyn fmt::Display) -> CodeError {
    CodeError::Refused(name.to_owned(), error.to_string())
}

/// Runs a part of Cranelift, which asserts where others return errors.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, CodeError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| CodeError::Panicked(panic_message(&*payload)))
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cranelift_codegen::ir::MemFlagsData;

    fn entry(builder: &mut FunctionBuilder<'_>) -> Vec<Value> {
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        builder.block_params(block).to_vec()
    }

    fn call(code: &Code, id: FuncId, argument: u64) -> u64 {
        let pointer = code.pointer(id).expect("defined");
        // SAFETY: the tests below define it as a function from one 64-bit integer to another.
        let function: extern "C" fn(u64) -> u64 = unsafe { std::mem::transmute(pointer) };
        function(argument)
    }

    #[test]
    fn functions_call_one_another_and_read_constants() {
        let mut code = CodeBuilder::new(&Settings::default()).unwrap();
        let signature = code.signature(&[types::I64], &[types::I64]);
        let table = code
            .define("table", &signature, |b, scope| {
                let args = entry(b);
                let address = scope.constant(b, &[10, 20, 30, 40]);
                let address = b.ins().iadd(address, args[0]);
                let value = b.ins().uload8(types::I64, MemFlagsData::new(), address, 0);
                b.ins().return_(&[value]);
                Ok(())
            })
            .unwrap();
        let twice = code
            .define("twice", &signature, |b, scope| {
                let args = entry(b);
                let table = scope.function(b, table);
                let call = b.ins().call(table, &[args[0]]);
                let value = b.inst_results(call)[0];
                let sum = b.ins().iadd(value, value);
                b.ins().return_(&[sum]);
                Ok(())
            })
            .unwrap();
        let code = code.finish().unwrap();
        assert!(code.code_bytes() > 64);
        let code = std::sync::Arc::new(code);
        let other = std::sync::Arc::clone(&code);
        std::thread::spawn(move || assert_eq!(call(&other, twice, 3), 80)).join().unwrap();
        assert_eq!(call(&code, table, 1), 20);
    }

    #[test]
    fn a_refused_function_leaves_the_builder_usable() {
        let settings = Settings { verify: true, ..Settings::default() };
        let mut code = CodeBuilder::new(&settings).unwrap();
        let signature = code.signature(&[types::I64], &[types::I64]);
        let error = code.define("wrong", &signature, |b, _| {
            entry(b);
            b.ins().return_(&[]);
            Ok(())
        });
        assert!(matches!(error, Err(CodeError::Refused(name, _)) if name == "wrong"));
        let error = code.define("given_up", &signature, |b, _| {
            entry(b);
            Err(CodeError::TooLarge("states", 1))
        });
        assert_eq!(error, Err(CodeError::TooLarge("states", 1)));
        let right = code.define("right", &signature, |b, _| {
            let args = entry(b);
            b.ins().return_(&args);
            Ok(())
        });
        let code = code.finish().unwrap();
        assert_eq!(call(&code, right.unwrap(), 7), 7);
    }

    #[test]
    fn what_is_called_must_be_defined() {
        let mut code = CodeBuilder::new(&Settings::default()).unwrap();
        let signature = code.signature(&[types::I64], &[types::I64]);
        // A name that the C library has: it must not be found there.
        let missing = code.declare("labs", &signature).unwrap();
        code.define("caller", &signature, |b, scope| {
            let args = entry(b);
            let missing = scope.function(b, missing);
            let call = b.ins().call(missing, &args);
            let value = b.inst_results(call)[0];
            b.ins().return_(&[value]);
            Ok(())
        })
        .unwrap();
        assert_eq!(code.finish().unwrap_err(), CodeError::Undefined("labs".into()));
    }

    #[test]
    fn a_panic_becomes_an_error_and_stays_one() {
        let mut code = CodeBuilder::new(&Settings::default()).unwrap();
        let signature = code.signature(&[], &[]);
        let error = code.define("boom", &signature, |_, _| panic!("boom"));
        assert_eq!(error, Err(CodeError::Panicked("boom".into())));
        assert_eq!(code.declare("next", &signature), Err(CodeError::Panicked("boom".into())));
        assert!(code.finish().is_err());
    }

    #[test]
    fn bounds_hold() {
        let many = |b: &mut FunctionBuilder<'_>| {
            let args = entry(b);
            let mut value = args[0];
            for _ in 0..100 {
                value = b.ins().imul(value, args[0]);
            }
            b.ins().return_(&[value]);
            Ok(())
        };
        let settings = Settings { instructions_max: 100, ..Settings::default() };
        let mut code = CodeBuilder::new(&settings).unwrap();
        let signature = code.signature(&[types::I64], &[types::I64]);
        let error = code.define("many", &signature, |b, _| many(b));
        assert_eq!(error, Err(CodeError::TooLarge("instructions", 100)));

        let settings = Settings { code_bytes_max: 100, ..Settings::default() };
        let mut code = CodeBuilder::new(&settings).unwrap();
        let error = code.define("many", &signature, |b, _| many(b));
        assert_eq!(error, Err(CodeError::TooLarge("bytes", 100)));
    }

    #[test]
    fn the_memory_of_dropped_code_is_given_back() {
        // Without `free_memory` every module keeps at least a page mapped; the kernel gives the addresses out again
        // when it is freed, so few different ones are seen.
        let mut seen = HashSet::new();
        for _ in 0..64 {
            let mut code = CodeBuilder::new(&Settings::default()).unwrap();
            let signature = code.signature(&[types::I64], &[types::I64]);
            let id = code
                .define("same", &signature, |b, _| {
                    let args = entry(b);
                    b.ins().return_(&args);
                    Ok(())
                })
                .unwrap();
            let code = code.finish().unwrap();
            seen.insert(code.pointer(id).unwrap() as usize);
        }
        assert!(seen.len() < 64, "no address was ever used again");
    }
}
