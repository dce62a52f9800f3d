//! Writes real-shaped logs to standard output: `cargo run --example make-logs -- access 100000 [seed]`.

mod logs;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use logs::{Logs, Shape};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((shape, count, seed)) = parse_args(&args) else {
        eprintln!("usage: make-logs access|json|syslog COUNT [SEED]");
        return ExitCode::from(2);
    };
    let mut logs = Logs::new(shape, seed);
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut line = String::new();
    for _ in 0..count {
        line.clear();
        logs.line(&mut line);
        if out.write_all(line.as_bytes()).is_err() {
            // The reader has seen enough.
            return ExitCode::SUCCESS;
        }
    }
    match out.flush() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write: {error}");
            ExitCode::from(3)
        }
    }
}

fn parse_args(args: &[String]) -> Option<(Shape, u64, u64)> {
    let shape = match args.first()?.as_str() {
        "access" => Shape::Access,
        "json" => Shape::Json,
        "syslog" => Shape::Syslog,
        _ => return None,
    };
    let count = args.get(1)?.replace('_', "").parse().ok()?;
    let seed = match args.get(2) {
        Some(seed) => seed.parse().ok()?,
        None => 1,
    };
    Some((shape, count, seed))
}
