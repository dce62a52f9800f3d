//! What a program is run against: a broker, an ensemble, or ours and Debian's side by side.

use std::path::{Path, PathBuf};

use crate::broker::{Broker, Kind};
use crate::ensemble::{Ensemble, Whose};
use crate::program::tail;

#[derive(Clone, Copy, PartialEq)]
pub enum Wanted {
    Broker(Kind),
    /// With that many servers.
    Ensemble(Whose, u32),
    /// One server of ours and one of Debian's.
    Compared,
}

impl Wanted {
    /// What tells programs apart that are run several times.
    pub fn suffix(self) -> String {
        match self {
            Wanted::Broker(_) | Wanted::Compared => String::new(),
            Wanted::Ensemble(whose, size) => format!("@{whose:?}-{size}").to_lowercase(),
        }
    }
}

pub enum Server {
    Broker(Broker, PathBuf),
    Ensemble(Whose, Ensemble),
    Compared(Ensemble, Ensemble),
}

impl Server {
    /// An error, and what to read about it.
    pub fn start(wanted: Wanted, dir: &Path) -> Result<Server, (String, String)> {
        let one = |whose, size| Ensemble::start(whose, size, dir);
        match wanted {
            Wanted::Broker(kind) => {
                let log = dir.join("broker.log");
                let broker = Broker::start(kind, dir).map_err(|error| (error, tail(&log, 60)))?;
                Ok(Server::Broker(broker, log))
            }
            Wanted::Ensemble(whose, size) => Ok(Server::Ensemble(whose, one(whose, size)?)),
            Wanted::Compared => Ok(Server::Compared(one(Whose::Ours, 1)?, one(Whose::Debian, 1)?)),
        }
    }

    /// What tells the program where to find it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Server::Broker(broker, _) => broker.environment().into(),
            Server::Ensemble(whose, ensemble) => vec![
                ("FLOW_INTEROP_ZOOKEEPER", ensemble.hosts()),
                ("FLOW_INTEROP_ENSEMBLE", format!("{whose:?}").to_lowercase()),
            ],
            Server::Compared(ours, reference) => {
                vec![("FLOW_INTEROP_ZOOKEEPER", ours.hosts()), ("FLOW_INTEROP_REFERENCE", reference.hosts())]
            }
        }
    }

    pub fn command(&mut self, command: &str) -> Result<(), String> {
        match self {
            Server::Broker(broker, _) => broker.command(command),
            Server::Ensemble(_, ensemble) => ensemble.command(command),
            Server::Compared(..) => Err("these two are left alone".to_owned()),
        }
    }

    pub fn end(&mut self) -> Result<(), String> {
        match self {
            Server::Broker(broker, _) => broker.end(),
            Server::Ensemble(_, ensemble) => ensemble.end(),
            Server::Compared(ours, reference) => ours.end().and(reference.end()),
        }
    }

    /// The last lines that it wrote.
    pub fn log(&self, lines: usize) -> String {
        match self {
            Server::Broker(_, log) => tail(log, lines),
            Server::Ensemble(_, ensemble) => ensemble.log(lines),
            Server::Compared(ours, reference) => format!("{}{}", ours.log(lines), reference.log(lines)),
        }
    }
}
