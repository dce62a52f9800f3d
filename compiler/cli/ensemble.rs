//! Which ensemble `flowc zk` talks to: addresses, or the one that a file declares.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flow_coordinator::client::{Client, ClientConfig, ClientError, ClientTls, Events};
use flow_plan::plan::{Service, ServiceWord};
use flow_plan::settings::SecretSetting;
use serde_json::Value;

use crate::cluster::Failure;
use crate::{Exit, output, project, secrets};

#[derive(clap::Args)]
pub struct Access {
    /// Which of the file's ensembles
    #[arg(long, value_name = "NAME", global = true)]
    ensemble: Option<String>,
    /// Digest authentication as this user; the password is taken from FLOW_ZK_PASSWORD
    #[arg(long, global = true)]
    user: Option<String>,
    /// Speak TLS and trust the authorities in this PEM file
    #[arg(long, value_name = "PEM", global = true)]
    ca: Option<PathBuf>,
    /// With `--ca`: show this certificate
    #[arg(long, value_name = "PEM", requires_all = ["ca", "key"], global = true)]
    cert: Option<PathBuf>,
    /// The key of `--cert`
    #[arg(long, value_name = "PEM", requires = "cert", global = true)]
    key: Option<PathBuf>,
    /// Give up on servers that do not answer for so long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600), global = true)]
    timeout: u64,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure(Exit::Failure, error.to_string())
    }
}

/// Connects, does the work, and ends the session.
pub fn with_ensemble<F: Future<Output = Result<(), Failure>>>(
    access: &Access,
    target: &str,
    work: impl FnOnce(Client, Events) -> F,
) -> Exit {
    let config = match access.config(target) {
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
        let (client, events) = Client::start(config);
        client.ready(Duration::from_secs(access.timeout)).await?;
        let done = work(client.clone(), events).await;
        // The session ends by itself when this fails.
        let _ = tokio::time::timeout(Duration::from_secs(2), client.close()).await;
        done
    });
    match done {
        Ok(()) => Exit::Fine,
        Err(Failure(exit, message)) => {
            output::note(&message);
            exit
        }
    }
}

impl Access {
    fn config(&self, target: &str) -> Result<ClientConfig, Failure> {
        let usage = |message: String| Failure(Exit::Usage, message);
        let is_file = target.ends_with(".flow") || Path::new(target).is_file();
        let mut config = match is_file {
            true => self.of_file(Path::new(target))?,
            false => ClientConfig::parse(target).map_err(|error| usage(error.to_string()))?,
        };
        if !is_file && self.ensemble.is_some() {
            return Err(usage("`--ensemble` is for a file that declares several".to_owned()));
        }
        if let Some(user) = &self.user {
            let password = std::env::var("FLOW_ZK_PASSWORD")
                .map_err(|_| usage("`--user` needs FLOW_ZK_PASSWORD to be set".to_owned()))?;
            config.auth = vec![("digest".to_owned(), format!("{user}:{password}").into_bytes())];
        }
        if let Some(ca) = &self.ca {
            let identity = self.cert.as_deref().zip(self.key.as_deref());
            let tls = ClientTls::new(ca, identity).map_err(|error| usage(error.to_string()))?;
            config.tls = Some(tls);
        }
        Ok(config)
    }

    fn of_file(&self, file: &Path) -> Result<ClientConfig, Failure> {
        let usage = |message: String| Failure(Exit::Usage, message);
        let project = project::open(file, &project::Params { set: Vec::new() })
            .map_err(|exit| Failure(exit, format!("no ensemble can be read from `{}`", file.display())))?;
        let Some(plan) = &project.checked.plan else {
            let message = format!("`{}` has errors: `flowc check` shows them", file.display());
            return Err(Failure(Exit::Errors, message));
        };
        let ensembles: Vec<&Service> =
            plan.services.iter().filter(|service| service.word == ServiceWord::Ensemble).collect();
        let service = match (&self.ensemble, ensembles.as_slice()) {
            (Some(name), all) => all.iter().find(|service| service.name == *name).copied(),
            (None, []) => None,
            (None, [one]) => Some(*one),
            (None, several) => {
                let names: Vec<&str> = several.iter().map(|service| service.name.as_str()).collect();
                return Err(usage(format!("which ensemble? `--ensemble` {}", names.join(", "))));
            }
        };
        let service = service.ok_or_else(|| usage(format!("`{}` has no such ensemble", file.display())))?;
        let text = |key: &str| service.settings.get(key).and_then(Value::as_str);
        let connect = match text("connect") {
            Some(connect) => connect.to_owned(),
            None => {
                let servers = service.settings.get("servers").and_then(Value::as_array);
                let servers: Vec<&str> = servers.into_iter().flatten().filter_map(Value::as_str).collect();
                servers.join(",")
            }
        };
        let mut config = ClientConfig::parse(&connect).map_err(|error| usage(error.to_string()))?;
        if let (None, Some(user), Some(password)) =
            (&self.user, text("user"), service.settings.get("password").filter(|value| !value.is_null()))
        {
            let known = secrets::fetch(plan).map_err(|(_, fault)| Failure(Exit::Failure, fault.message))?;
            let setting: SecretSetting = serde_json::from_value(password.clone())
                .map_err(|error| usage(format!("the password of `{user}` cannot be read: {error}")))?;
            let password = match setting {
                SecretSetting::Literal(password) => password,
                SecretSetting::Secret(name) => known.get(&name).cloned().unwrap_or_default(),
            };
            config.auth = vec![("digest".to_owned(), format!("{user}:{password}").into_bytes())];
        }
        if self.ca.is_none() && service.settings.get("tls") == Some(&Value::Bool(true)) {
            let identity = text("cert").map(Path::new).zip(text("key").map(Path::new));
            let identity = identity.filter(|_| text("ca").is_some());
            // A server of this file without authorities is trusted by its own certificate.
            let trusted = text("ca").or_else(|| text("cert"));
            let trusted = trusted.ok_or_else(|| usage("`tls: true` needs `ca`".to_owned()))?;
            let tls =
                ClientTls::new(Path::new(trusted), identity).map_err(|error| usage(error.to_string()))?;
            config.tls = Some(tls);
        }
        Ok(config)
    }
}
