//! Asks before something is deleted.

use std::io::{BufRead, IsTerminal, Write};

/// Whether somebody says yes; without somebody to ask, `--yes` must have said so.
pub fn confirmed(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        crate::output::note(&format!("{question} Say `--yes`"));
        return false;
    }
    let mut errors = std::io::stderr();
    let _ = write!(errors, "{question} (y/N) ");
    let _ = errors.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
