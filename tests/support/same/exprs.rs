//! Random expressions with types, as text.

use super::bytes::Bytes;

/// Types of expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Text,
    Int,
    Float,
    Bool,
    Time,
}

impl Type {
    pub const ALL: [Type; 5] = [Type::Text, Type::Int, Type::Float, Type::Bool, Type::Time];

    pub fn name(self) -> &'static str {
        match self {
            Type::Text => "string",
            Type::Int => "int",
            Type::Float => "float",
            Type::Bool => "bool",
            Type::Time => "time",
        }
    }
}

/// Names of headers that programs read and write.
pub const HEADERS: [&str; 8] = ["status", "kind", "host", "when", "size", "ip", "verb", "x"];

/// Literals, some of them hostile.
const TEXTS: [&str; 12] = [
    "\"a\"",
    "\"\"",
    "\"GET\"",
    "\"200\"",
    "\" -7 \"",
    "\"é\"",
    "\"1.5\"",
    "\"NaN\"",
    "\"%\"",
    "\",\"",
    "\"9223372036854775808\"",
    "\"\\u{0}\"",
];

/// Regexes without groups.
pub const REGEXES: [&str; 24] = [
    "/a/",
    "/^GET/",
    "/\\d+/",
    "/^$/",
    "/x$/",
    "/é/",
    "/[a-z]+\\d/",
    "/(?i)error|warn/",
    "/\\bfoo\\b/",
    "/^\\S+ /",
    "/\"[^\"]*\"/",
    "/5\\d\\d/",
    "/^.{3}$/",
    "/a.*b.*c/",
    "/(?-u:\\bget\\b)/",
    "/\\/index/",
    "/[^ -~]/",
    "/\\w+@\\w+/",
    "/kube-probe|GET \\/health/",
    "/^(?:a|ab)(?:c|bcd)*$/",
    "/\\x00/",
    "/(?s-u)./",
    "/\\s{2,}/",
    "/(a|b|c|d){2,5}/",
];

const FORMATS: [&str; 5] =
    ["\"%d/%b/%Y:%H:%M:%S %z\"", "\"%FT%TZ\"", "\"%Y-%m-%d\"", "\"%s\"", "\"%H:%M:%S%.3f\""];

/// A user's function: the types of its parameters, and of its answer.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub params: Vec<Type>,
    pub answer: Type,
}

/// What expressions at a place may name.
#[derive(Clone, Default)]
pub struct Scope {
    pub locals: Vec<(String, Type)>,
    /// A record of [`RECORD`] by this name.
    pub records: Vec<String>,
    /// Inside of a function: no event.
    pub pure: bool,
}

/// What bodies and headers are decoded to.
pub const RECORD: &str = "type Rec = { a: int, b: string?, c: float?, ok: bool?, tags: list<string>? }\n";

/// Expressions from bytes.
pub struct Exprs<'b, 'a, 'f> {
    pub bytes: &'b mut Bytes<'a>,
    pub functions: &'f [Function],
    pub scope: &'f Scope,
}

impl Exprs<'_, '_, '_> {
    pub fn of(&mut self, ty: Type, depth: u32) -> String {
        if depth > 0 && self.bytes.rarely(7) {
            return self.structural(ty, depth - 1);
        }
        if self.bytes.below(4) == 3
            && let Some(local) = self.local(ty)
        {
            return local;
        }
        match ty {
            Type::Text => self.text(depth),
            Type::Int => self.int(depth),
            Type::Float => self.float(depth),
            Type::Bool => self.bool(depth),
            Type::Time => self.time(depth),
        }
    }

    /// What every type has.
    fn structural(&mut self, ty: Type, depth: u32) -> String {
        let fitting: Vec<&Function> = self.functions.iter().filter(|one| one.answer == ty).collect();
        if !fitting.is_empty() && self.bytes.below(3) < 2 {
            let function = fitting[self.bytes.below(fitting.len())].clone();
            return self.call(&function, depth);
        }
        let condition = self.of(Type::Bool, depth);
        let (then, otherwise) = (self.of(ty, depth), self.of(ty, depth));
        format!("(if {condition} {{ {then} }} else {{ {otherwise} }})")
    }

    pub fn call(&mut self, function: &Function, depth: u32) -> String {
        let args: Vec<String> = function.params.iter().map(|ty| self.of(*ty, depth)).collect();
        format!("{}({})", function.name, args.join(", "))
    }

    fn local(&mut self, ty: Type) -> Option<String> {
        let fitting: Vec<&String> =
            self.scope.locals.iter().filter(|(_, known)| *known == ty).map(|(name, _)| name).collect();
        (!fitting.is_empty()).then(|| fitting[self.bytes.below(fitting.len())].clone())
    }

    /// A text that may be absent: only of an event.
    pub fn header(&mut self) -> String {
        format!("header.{}", self.bytes.pick(&HEADERS))
    }

    fn record(&mut self) -> Option<String> {
        let records = &self.scope.records;
        (!records.is_empty()).then(|| records[self.bytes.below(records.len())].clone())
    }

    fn text_leaf(&mut self) -> String {
        if self.scope.pure {
            return match self.local(Type::Text) {
                Some(local) if self.bytes.below(3) != 2 => local,
                _ => self.bytes.pick(&TEXTS).to_owned(),
            };
        }
        match self.bytes.below(5) {
            0 | 1 => {
                let literal = self.bytes.pick(&TEXTS);
                format!("({} ?? {literal})", self.header())
            }
            2 => "body".into(),
            3 => self.bytes.pick(&TEXTS).into(),
            _ => match self.record() {
                Some(record) => format!("({record}.b ?? body)"),
                None => "body".into(),
            },
        }
    }

    fn text(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.text_leaf();
        }
        let depth = depth - 1;
        match self.bytes.below(24) {
            0..=3 => self.text_leaf(),
            4 => format!("lower({})", self.of(Type::Text, depth)),
            5 => format!("upper({})", self.of(Type::Text, depth)),
            6 => format!("trim({})", self.of(Type::Text, depth)),
            7 => format!("({} + {})", self.of(Type::Text, depth), self.of(Type::Text, depth)),
            8 => {
                let ty = self.bytes.pick(&[Type::Int, Type::Float, Type::Bool, Type::Time]);
                format!("text({})", self.of(ty, depth))
            }
            9 | 10 => self.template(depth),
            11 => format!("first({}, {})", self.of(Type::Text, depth), self.of(Type::Int, 0)),
            12 => {
                let regex = self.bytes.pick(&REGEXES);
                format!("replace_all({}, {regex}, \"<$0>\")", self.of(Type::Text, depth))
            }
            13 => format!("strip_prefix({}, {})", self.of(Type::Text, depth), self.bytes.pick(&TEXTS)),
            14 => format!(
                "slice({}, {}, {})",
                self.of(Type::Text, depth),
                self.of(Type::Int, 0),
                self.of(Type::Int, 0)
            ),
            15 => {
                let format = self.bytes.pick(&FORMATS);
                format!("format_time({}, {format})", self.of(Type::Time, depth))
            }
            16 => {
                let regex = self.bytes.pick(&REGEXES);
                format!("(find({}, {regex}) ?? \"none\")", self.of(Type::Text, depth))
            }
            17 => format!(
                "(split({}, \" \")[{}] else \"out\")",
                self.of(Type::Text, depth),
                self.of(Type::Int, 0)
            ),
            18 => format!("url_decode({})", self.of(Type::Text, depth)),
            19 => format!("base64({})", self.of(Type::Text, depth)),
            20 => format!("(base64_decode({}) else {})", self.of(Type::Text, depth), self.of(Type::Text, 0)),
            21 => format!("truncate({}, {}, \"…\")", self.of(Type::Text, depth), self.of(Type::Int, 0)),
            22 => format!("md5({})", self.of(Type::Text, depth)),
            _ => format!("(text(json({}).a) ?? \"no\" else \"not json\")", self.of(Type::Text, depth)),
        }
    }

    pub fn template(&mut self, depth: u32) -> String {
        let mut text = String::from("\"");
        for _ in 0..=self.bytes.below(4) {
            match self.bytes.below(5) {
                0 if !self.scope.pure => text += &format!("${{{}}}", self.header()),
                1 if !self.scope.pure => text += "${body}",
                2 if !self.scope.pure => text += "${time:%Y-%m-%d}",
                3 => {
                    let ty = self.bytes.pick(&[Type::Int, Type::Text, Type::Float, Type::Bool]);
                    let hole = self.of(ty, depth.min(1));
                    // What would end the string early stands outside.
                    text += &if hole.contains(['"', '/', '}', '\\']) {
                        "-".into()
                    } else {
                        format!("${{{hole}}}")
                    };
                }
                _ => text += self.bytes.pick(&["-", "x=", " ", "é", "\\n"]),
            }
        }
        text + "\""
    }

    fn int_literal(&mut self) -> String {
        let value = self.bytes.int();
        if value < 0 { format!("(-{})", value.unsigned_abs()) } else { value.to_string() }
    }

    fn int(&mut self, depth: u32) -> String {
        if depth == 0 {
            return match self.bytes.below(3) {
                0 => self.int_literal(),
                _ => self.local(Type::Int).unwrap_or_else(|| self.int_literal()),
            };
        }
        let depth = depth - 1;
        match self.bytes.below(20) {
            0 | 1 => self.int_literal(),
            2 => format!("len({})", self.of(Type::Text, depth)),
            3 => format!("byte_len({})", self.of(Type::Text, depth)),
            4 | 5 => format!("int({})", self.text_leaf()),
            6 | 7 => format!("(int({}) else {})", self.of(Type::Text, depth), self.of(Type::Int, 0)),
            8..=10 => {
                let op = self.bytes.pick(&["+", "-", "*", "/", "%"]);
                format!("({} {op} {})", self.of(Type::Int, depth), self.of(Type::Int, depth))
            }
            11 => format!("(-{})", self.of(Type::Int, depth)),
            12 => format!("int({})", self.of(Type::Float, depth)),
            13 => format!("(index_of({}, \"a\") ?? {})", self.of(Type::Text, depth), self.of(Type::Int, 0)),
            14 => format!("unix_ms({})", self.of(Type::Time, depth)),
            15 => format!("abs({})", self.of(Type::Int, depth)),
            16 => format!("hour({})", self.of(Type::Time, depth)),
            17 => format!("min({}, {})", self.of(Type::Int, depth), self.of(Type::Int, depth)),
            18 if !self.scope.pure => format!("(int({}) ?? {})", self.header(), self.of(Type::Int, 0)),
            _ => match self.record() {
                Some(record) => format!("{record}.a"),
                None => self.int_literal(),
            },
        }
    }

    fn float(&mut self, depth: u32) -> String {
        const LITERALS: [&str; 6] = ["1.5", "0.0", "(-0.25)", "100000.0", "0.1", "(-0.0)"];
        if depth == 0 {
            return self.local(Type::Float).unwrap_or_else(|| self.bytes.pick(&LITERALS).into());
        }
        let depth = depth - 1;
        match self.bytes.below(10) {
            0 => self.bytes.pick(&LITERALS).into(),
            1 | 2 => format!("(float({}) else {})", self.of(Type::Text, depth), self.of(Type::Float, 0)),
            3 => format!("float({})", self.text_leaf()),
            4 => format!("float({})", self.of(Type::Int, depth)),
            5 | 6 => {
                let op = self.bytes.pick(&["+", "-", "*", "/", "%"]);
                format!("({} {op} {})", self.of(Type::Float, depth), self.of(Type::Float, depth))
            }
            7 => format!("abs({})", self.of(Type::Float, depth)),
            8 => format!("round({}, 2)", self.of(Type::Float, depth)),
            _ => match self.record() {
                Some(record) => format!("({record}.c ?? 0.5)"),
                None => format!("(-{})", self.of(Type::Float, depth)),
            },
        }
    }

    fn time(&mut self, depth: u32) -> String {
        let leaf = if self.scope.pure { "from_unix_ms(1790000000000)" } else { "time" };
        if depth == 0 {
            return self.local(Type::Time).unwrap_or_else(|| leaf.into());
        }
        let depth = depth - 1;
        match self.bytes.below(8) {
            0 | 1 => leaf.into(),
            2 if !self.scope.pure => "now()".into(),
            3 | 4 => {
                let format = self.bytes.pick(&FORMATS);
                format!("(parse_time({}, {format}) else {leaf})", self.of(Type::Text, depth))
            }
            5 => {
                let format = self.bytes.pick(&FORMATS);
                format!("parse_time({}, {format})", self.text_leaf())
            }
            6 => format!("from_unix_ms({})", self.of(Type::Int, depth)),
            _ => format!("({} + {})", self.of(Type::Time, depth), self.bytes.pick(&["1h", "3d", "5ms"])),
        }
    }

    pub fn bool(&mut self, depth: u32) -> String {
        if depth == 0 {
            let regex = self.bytes.pick(&REGEXES);
            return if self.scope.pure {
                format!("{} ~ {regex}", self.text_leaf())
            } else if self.bytes.below(2) == 0 {
                format!("body ~ {regex}")
            } else {
                format!("{} ~ {regex}", self.header())
            };
        }
        let depth = depth - 1;
        let compare = ["==", "!=", "<", "<=", ">", ">="];
        match self.bytes.below(18) {
            0 | 1 => self.bool(0),
            2 => {
                let (op, regex) = (self.bytes.pick(&["~", "!~"]), self.bytes.pick(&REGEXES));
                format!("{} {op} {regex}", self.of(Type::Text, depth))
            }
            3 | 4 => {
                let op = self.bytes.pick(&compare);
                format!("({} {op} {})", self.of(Type::Int, depth), self.of(Type::Int, depth))
            }
            5 => {
                let op = self.bytes.pick(&compare);
                format!("({} {op} {})", self.of(Type::Float, depth), self.of(Type::Float, depth))
            }
            6 => {
                let op = self.bytes.pick(&compare);
                format!("({} {op} {})", self.of(Type::Text, depth), self.of(Type::Text, depth))
            }
            7 => {
                let op = self.bytes.pick(&compare);
                format!("({} {op} {})", self.of(Type::Time, depth), self.of(Type::Time, depth))
            }
            8 if !self.scope.pure => {
                let op = self.bytes.pick(&["==", "!="]);
                let other = self.bytes.pick(&["null", "\"200\"", "\"\"", "\"GET\""]);
                format!("{} {op} {other}", self.header())
            }
            9 if !self.scope.pure => {
                let list = self.bytes.pick(&[
                    "[\"a\", \"GET\", \"200\"]",
                    "[\"\"]",
                    "[\"é\", \"b\", \"c\", \"d\", \"e\", \"f\"]",
                ]);
                format!("{} in {list}", self.header())
            }
            10 => {
                let list = self.bytes.pick(&["200..299", "[1, 2, 200, -5]", "0..9", "500..599"]);
                format!("{} in {list}", self.of(Type::Int, depth))
            }
            11 => format!("not ({})", self.bool(depth)),
            12 => format!("({} and {})", self.bool(depth), self.bool(depth)),
            13 => format!("({} or {})", self.bool(depth), self.bool(depth)),
            14 => {
                let function = self.bytes.pick(&["contains", "starts_with", "ends_with"]);
                format!("{function}({}, {})", self.of(Type::Text, depth), self.of(Type::Text, 0))
            }
            15 => format!("(bool({}) else false)", self.of(Type::Text, depth)),
            16 => match self.record() {
                Some(record) => format!("({record}.ok ?? false)"),
                None => format!("is_blank({})", self.of(Type::Text, depth)),
            },
            _ => format!("any(split({}, \",\"), i => i == \"a\")", self.of(Type::Text, depth)),
        }
    }
}
