//! The ensemble `zookeeper`: one that runs elsewhere. Nothing is started, and nothing is asked of it here: whether it
//! answers is for those to say who use it.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use flow_agent::{Context, Elector, Fault, Service, StartingService, decode_settings};
use flow_coordinator::client::{ClientConfig, ClientTls};
use flow_plan::Settings;
use flow_plan::plan::Topic;
use flow_plan::settings::SecretSetting;
use serde::Deserialize;

use super::election::ClientElector;
use super::{EnsembleHandle, tls_needs};

/// Makes a `zookeeper` ensemble.
pub fn zookeeper(settings: Settings, context: Context) -> StartingService {
    Box::pin(async move {
        let settings: ZookeeperSettings = decode_settings(&settings)?;
        let config = config(&settings, &context)?;
        Ok(Arc::new(External { connect: settings.connect, config }) as Arc<dyn Service>)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ZookeeperSettings {
    connect: String,
    user: Option<String>,
    password: Option<SecretSetting>,
    tls: bool,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

fn config(settings: &ZookeeperSettings, context: &Context) -> Result<ClientConfig, Fault> {
    let mut config = ClientConfig::parse(&settings.connect)
        .map_err(|error| Fault::new(error.to_string()).setting("connect"))?;
    match (&settings.user, &settings.password) {
        (Some(user), Some(password)) => {
            let auth = format!("{user}:{}", context.secret(password)?);
            config.auth.push(("digest".to_owned(), auth.into_bytes()));
        }
        (Some(_), None) => {
            return Err(Fault::new("`user` needs `password`").code("F0115").setting("user"));
        }
        (None, Some(_)) => {
            return Err(Fault::new("`password` needs `user`").code("F0115").setting("password"));
        }
        (None, None) => {}
    }
    if settings.tls {
        let ca = settings.ca.as_ref().ok_or_else(|| tls_needs("ca"))?;
        let identity = match (&settings.cert, &settings.key) {
            (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
            (None, None) => None,
            (Some(_), None) => return Err(Fault::new("`cert` needs `key`").code("F0115").setting("cert")),
            (None, Some(_)) => return Err(Fault::new("`key` needs `cert`").code("F0115").setting("key")),
        };
        let tls =
            ClientTls::new(ca, identity).map_err(|error| Fault::new(error.to_string()).setting("ca"))?;
        config.tls = Some(tls);
    }
    Ok(config)
}

struct External {
    connect: String,
    config: ClientConfig,
}

#[async_trait]
impl Service for External {
    fn handle(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(EnsembleHandle(self.config.clone()))
    }

    async fn open_topic(&self, _: &Topic) -> Result<(), Fault> {
        Err(Fault::new("an ensemble has no topics").code("F1109"))
    }

    fn address(&self) -> String {
        self.connect.clone()
    }

    fn condition(&self) -> Option<String> {
        Some("external".to_owned())
    }

    fn serves(&self) -> bool {
        false
    }

    fn elector(&self) -> Option<Arc<dyn Elector>> {
        Some(Arc::new(ClientElector::new(self.config.clone())))
    }

    async fn shutdown(&self) {}
}
