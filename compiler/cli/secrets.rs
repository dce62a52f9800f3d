//! Secrets are fetched when a process starts, and go nowhere but into settings declared secret.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use flow_agent::Fault;
use flow_plan::Plan;
use flow_plan::plan::{OriginId, Secret};

/// The longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// All secrets of a plan by name, or the first that cannot be had.
pub fn fetch(plan: &Plan) -> Result<BTreeMap<String, String>, (OriginId, Fault)> {
    let one = |secret: &Secret| match fetch_one(secret) {
        Ok(value) => Ok((secret.name.clone(), value)),
        Err(fault) => Err((secret.origin, fault.code("F0901"))),
    };
    plan.secrets.iter().map(one).collect()
}

fn fetch_one(secret: &Secret) -> Result<String, Fault> {
    let name = &secret.name;
    let setting = |key: &str| secret.settings.get(key).and_then(serde_json::Value::as_str).unwrap_or("");
    let value = match secret.kind.as_str() {
        "file" => from_file(name, setting("path"))?,
        "env" => {
            let variable = setting("name");
            std::env::var(variable).map_err(|_| {
                Fault::new(format!("secret `{name}`: the variable `{variable}` is not set"))
                    .help(format!("export {variable}=…"))
            })?
        }
        "command" => from_command(name, setting("command"))?,
        kind => return Err(Fault::new(format!("secret `{name}`: this build has no `{kind}`"))),
    };
    let value = value.trim_end_matches(['\n', '\r']).to_owned();
    if value.is_empty() {
        return Err(Fault::new(format!("secret `{name}` is empty")));
    }
    if value.len() > SECRET_BYTES_MAX {
        return Err(Fault::new(format!("secret `{name}` is longer than {SECRET_BYTES_MAX} bytes")));
    }
    Ok(value)
}

fn from_file(name: &str, path: &str) -> Result<String, Fault> {
    let unreadable =
        |error: std::io::Error| Fault::new(format!("secret `{name}`: cannot read `{path}`: {error}"));
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o004 != 0 {
        return Err(Fault::new(format!("secret `{name}`: everybody on this host can read `{path}`"))
            .help(format!("chmod o-rwx {path}")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn from_command(name: &str, command: &str) -> Result<String, Fault> {
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Fault::new(format!("secret `{name}`: cannot run the command: {error}")))?;
    if !output.status.success() {
        return Err(Fault::new(format!("secret `{name}`: the command ended with {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| Fault::new(format!("secret `{name}` is not UTF-8")))
}
