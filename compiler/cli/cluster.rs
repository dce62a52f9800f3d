//! Which cluster `flowc topic` and `flowc group` talk to: an address, or the one that a file declares.

use std::future::Future;
use std::path::PathBuf;

use clap::ValueEnum;
use flow_broker::client::{Admin, ClientConfig, ClientError, ClientTls, Login, LoginMechanism, Place};
use flow_plan::plan::{Service, ServiceWord};

use crate::{Exit, output, project, secrets};

/// Where brokers listen when nobody says otherwise.
const DEFAULT_BROKER: &str = "127.0.0.1:9092";

#[derive(clap::Args)]
pub struct Access {
    /// Address of a broker, of flowc or of Kafka
    #[arg(long, value_name = "HOST:PORT", env = "FLOW_BROKER", global = true)]
    broker: Option<String>,
    /// The cluster that this file declares, in place of an address
    #[arg(long, value_name = "FILE", conflicts_with = "broker", global = true)]
    file: Option<PathBuf>,
    /// Which of the file's clusters
    #[arg(long, value_name = "NAME", requires = "file", global = true)]
    cluster: Option<String>,
    /// Log in as this user; the password is taken from FLOW_BROKER_PASSWORD
    #[arg(long, global = true)]
    user: Option<String>,
    #[arg(long, value_enum, default_value_t = Sasl::ScramSha512, global = true)]
    sasl: Sasl,
    /// Speak TLS and trust the authorities in this PEM file
    #[arg(long, value_name = "PEM", global = true)]
    ca: Option<PathBuf>,
    /// Give up on a broker that does not answer for so long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600), global = true)]
    timeout: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sasl {
    Plain,
    #[value(name = "scram-sha-256")]
    ScramSha256,
    #[value(name = "scram-sha-512")]
    ScramSha512,
}

/// Why a command does not get its answer: told to the user as it is.
pub struct Failure(pub Exit, pub String);

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure(Exit::Failure, error.to_string())
    }
}

/// Connects, does the work, and writes what it gives.
pub fn with_cluster<F: Future<Output = Result<String, Failure>>>(
    access: &Access,
    work: impl FnOnce(Admin) -> F,
) -> Exit {
    let config = match access.config() {
        Ok(config) => config,
        Err(Failure(exit, message)) => {
            output::note(&message);
            return exit;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("cannot start: {error}"));
            return Exit::Failure;
        }
    };
    let done = runtime.block_on(async {
        let admin = Admin::connect(config).await?;
        work(admin).await
    });
    match done {
        Ok(text) => {
            output::result(&text);
            Exit::Fine
        }
        Err(Failure(exit, message)) => {
            output::note(&message);
            exit
        }
    }
}

impl Access {
    fn config(&self) -> Result<ClientConfig, Failure> {
        let mut login = None;
        let mut address = self.broker.clone().unwrap_or_else(|| DEFAULT_BROKER.to_owned());
        if let Some(file) = &self.file {
            (address, login) = self.of_file(file)?;
        }
        if let Some(user) = &self.user {
            let password = std::env::var("FLOW_BROKER_PASSWORD").map_err(|_| {
                Failure(Exit::Usage, "`--user` needs FLOW_BROKER_PASSWORD to be set".to_owned())
            })?;
            login = Some((user.clone(), password));
        }
        let mechanism = match self.sasl {
            Sasl::Plain => LoginMechanism::Plain,
            Sasl::ScramSha256 => LoginMechanism::ScramSha256,
            Sasl::ScramSha512 => LoginMechanism::ScramSha512,
        };
        let tls = match &self.ca {
            Some(ca) => Some(ClientTls::trusting(ca).map_err(|reason| {
                Failure(Exit::Usage, format!("cannot use `{}`: {reason}", ca.display()))
            })?),
            None => None,
        };
        Ok(ClientConfig {
            login: login.map(|(user, password)| Login { mechanism, user, password }),
            tls,
            timeout_ms: self.timeout * 1000,
            ..ClientConfig::new(address)
        })
    }

    /// Address and login of the cluster in a file.
    fn of_file(&self, file: &std::path::Path) -> Result<(String, Option<(String, String)>), Failure> {
        let usage = |message: String| Failure(Exit::Usage, message);
        let project = project::open(file, &project::Params { set: Vec::new() })
            .map_err(|exit| Failure(exit, format!("no cluster can be read from `{}`", file.display())))?;
        let Some(plan) = &project.checked.plan else {
            let message = format!("`{}` has errors: `flowc check` shows them", file.display());
            return Err(Failure(Exit::Errors, message));
        };
        let clusters: Vec<&Service> =
            plan.services.iter().filter(|service| service.word == ServiceWord::Cluster).collect();
        let service = match &self.cluster {
            Some(name) => clusters.iter().find(|service| service.name == *name),
            None if clusters.len() > 1 => {
                let names: Vec<&str> = clusters.iter().map(|service| service.name.as_str()).collect();
                return Err(usage(format!("which cluster? `--cluster` {}", names.join(", "))));
            }
            None => clusters.first(),
        };
        let service = service.ok_or_else(|| usage(format!("`{}` has no such cluster", file.display())))?;
        let brokers = service.settings.get("brokers").and_then(|brokers| brokers.as_array());
        let address = brokers.and_then(|brokers| brokers.first()).and_then(|address| address.as_str());
        let address = match address.unwrap_or(DEFAULT_BROKER) {
            port if port.starts_with(':') => format!("127.0.0.1{port}"),
            address => address.to_owned(),
        };
        let users = service.settings.get("users").and_then(|users| users.as_object());
        let Some((user, password)) = users.and_then(|users| users.iter().next()) else {
            return Ok((address, None));
        };
        if self.user.is_some() {
            return Ok((address, None));
        }
        let known = secrets::fetch(plan).map_err(|(_, fault)| Failure(Exit::Failure, fault.message))?;
        let setting: flow_plan::settings::SecretSetting = serde_json::from_value(password.clone())
            .map_err(|error| usage(format!("the password of `{user}` cannot be read: {error}")))?;
        let password = match setting {
            flow_plan::settings::SecretSetting::Literal(password) => password,
            flow_plan::settings::SecretSetting::Secret(name) => known.get(&name).cloned().unwrap_or_default(),
        };
        Ok((address, Some((user.clone(), password))))
    }
}

/// `earliest`, `latest`, an offset, or a time such as `2026-11-23T10:00:00Z`.
pub fn parse_place(text: &str) -> Result<Place, String> {
    match text {
        "earliest" => Ok(Place::Earliest),
        "latest" => Ok(Place::Latest),
        text if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map(Place::Offset).map_err(|_| "this offset is too large".to_owned())
        }
        text => match text.trim_start_matches('@').parse::<jiff::Timestamp>() {
            Ok(time) => Ok(Place::At(time.as_millisecond())),
            Err(_) => {
                Err("expected `earliest`, `latest`, an offset or a time (`2026-11-23T10:00:00Z`)".to_owned())
            }
        },
    }
}

/// A time as people and tools read it.
pub fn time_text(time_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(time_ms) {
        Ok(time) if time_ms >= 0 => format!("{time:.3}"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_words_numbers_and_times() {
        assert_eq!(parse_place("earliest"), Ok(Place::Earliest));
        assert_eq!(parse_place("17"), Ok(Place::Offset(17)));
        assert_eq!(parse_place("1970-01-01T00:00:01.5Z"), Ok(Place::At(1500)));
        assert!(
            parse_place("-3").is_err()
                && parse_place("").is_err()
                && parse_place("9999999999999999999").is_err()
        );
    }
}
