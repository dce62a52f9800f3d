//! What a client's `reconfig` means.

use crate::proto::Code;
use crate::replica::{Reconfig, parse_members};
use crate::state::{CONFIG_PATH, State};

/// No check of the version is wanted.
const ANY_VERSION: i64 = -1;

/// The change that a client asks for.
///
/// # Errors
/// [`Code::BadVersion`] when the client has not seen the last change, [`Code::BadArguments`] for what is no server.
pub(super) fn change(
    joining: Option<&str>,
    leaving: Option<&str>,
    new_members: Option<&str>,
    config_id: i64,
    state: &State,
) -> Result<Reconfig, Code> {
    if config_id != ANY_VERSION && Some(config_id) != version(state) {
        return Err(Code::BadVersion);
    }
    let members = |text: &str| parse_members(text).map_err(|_| Code::BadArguments);
    let said = |text: Option<&str>| text.filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let leaving = said(leaving).unwrap_or_default();
    let leaving = leaving.split(',').map(str::trim).filter(|id| !id.is_empty());
    let change = Reconfig {
        joining: said(joining).map(|text| members(&text)).transpose()?.unwrap_or_default(),
        leaving: leaving.map(|id| id.parse().map_err(|_| Code::BadArguments)).collect::<Result<_, _>>()?,
        members: said(new_members).map(|text| members(&text)).transpose()?,
    };
    let incremental = !change.joining.is_empty() || !change.leaving.is_empty();
    if incremental == change.members.is_some() { Err(Code::BadArguments) } else { Ok(change) }
}

/// The number of the last change, as `/zookeeper/config` has it.
fn version(state: &State) -> Option<i64> {
    let data = std::str::from_utf8(state.data(CONFIG_PATH)??).ok()?;
    let version = data.lines().find_map(|line| line.strip_prefix("version="))?;
    i64::from_str_radix(version.trim(), 16).ok()
}
