//! `flowc zk`: the tree of an ensemble, of flowc or of ZooKeeper: look, change, watch.

use std::io::{Read, Write};

use base64::Engine;
use clap::Subcommand;
use flow_coordinator::client::{Client, ClientError, CreateKind, Event, Events};
use flow_coordinator::proto::{Acl, Code, EventType, Stat, check_path, perms};
use serde_json::{Value, json};

use crate::cluster::{Failure, time_text};
use crate::ensemble::{Access, with_ensemble};
use crate::output::{self, OutputFormat};
use crate::table::{harmless, table};
use crate::{Exit, confirm};

/// Data taken from standard input, at most.
const DATA_BYTES_MAX: u64 = 64 << 20;

/// What stands before every subcommand's path.
const TARGET: &str =
    "A .flow file that declares an ensemble, or servers: `zk1:2181,zk2:2181/part/of/the/tree`";

#[derive(clap::Args)]
#[command(
    after_help = "Every command takes a .flow file or servers first: `flowc zk ls plant.flow /services`"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    access: Access,
    #[arg(long, value_enum, default_value_t = OutputFormat::Text, global = true)]
    format: OutputFormat,
    /// The same as `--format json`
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Names below a znode
    Ls {
        #[arg(help = TARGET)]
        target: String,
        #[arg(default_value = "/", value_parser = parse_path)]
        path: String,
        /// Everything below, with full paths
        #[arg(long, short)]
        recursive: bool,
    },
    /// The data of a znode
    Get {
        #[arg(help = TARGET)]
        target: String,
        #[arg(value_parser = parse_path)]
        path: String,
        /// Write the bytes as they are
        #[arg(long)]
        raw: bool,
    },
    /// Give a znode new data
    Set {
        #[arg(help = TARGET)]
        target: String,
        #[arg(value_parser = parse_path)]
        path: String,
        /// `-` is standard input
        data: String,
        /// Only when it still has this version
        #[arg(long)]
        version: Option<i32>,
    },
    /// Make a znode
    Create {
        #[arg(help = TARGET)]
        target: String,
        /// With `--sequential` it may end with `/`
        path: String,
        /// `-` is standard input
        #[arg(default_value = "")]
        data: String,
        /// Gone with the session: this command stays until Ctrl-C
        #[arg(long, short, conflicts_with_all = ["container", "ttl"])]
        ephemeral: bool,
        /// Put the parent's next number behind the name
        #[arg(long, short, conflicts_with = "container")]
        sequential: bool,
        /// Gone some time after its last child
        #[arg(long, conflicts_with = "ttl")]
        container: bool,
        /// Gone after so many milliseconds without a change or a child
        #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(1..=0xff_ffff_ffff))]
        ttl: Option<i64>,
        /// Make what is missing above it
        #[arg(long, short)]
        parents: bool,
    },
    /// Delete a znode
    Delete {
        #[arg(help = TARGET)]
        target: String,
        #[arg(value_parser = parse_path)]
        path: String,
        /// With everything below it
        #[arg(long, short, conflicts_with = "version")]
        recursive: bool,
        /// Only when it still has this version
        #[arg(long)]
        version: Option<i32>,
        /// Do not ask before deleting recursively
        #[arg(long, short)]
        yes: bool,
    },
    /// Tell changes of a znode until Ctrl-C
    Watch {
        #[arg(help = TARGET)]
        target: String,
        #[arg(value_parser = parse_path)]
        path: String,
        /// And of everything below it
        #[arg(long, short)]
        recursive: bool,
        /// End after so many changes
        #[arg(long, short = 'n')]
        count: Option<u64>,
    },
    /// What a znode says of itself, and who may do what with it
    Stat {
        #[arg(help = TARGET)]
        target: String,
        #[arg(value_parser = parse_path)]
        path: String,
    },
}

fn parse_path(text: &str) -> Result<String, String> {
    match check_path(text, false) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => Err("paths begin with `/` and do not end with it: `/services`".to_owned()),
    }
}

pub fn run(arguments: &Arguments) -> Exit {
    let json = arguments.json || arguments.format == OutputFormat::Json;
    let access = &arguments.access;
    match &arguments.command {
        Command::Ls { target, path, recursive } => {
            with_ensemble(
                access,
                target,
                |client, _| async move { ls(&client, path, *recursive, json).await },
            )
        }
        Command::Get { target, path, raw } => {
            with_ensemble(access, target, |client, _| async move { get(&client, path, *raw, json).await })
        }
        Command::Set { target, path, data, version } => {
            let Some(data) = input(data) else { return Exit::Usage };
            with_ensemble(access, target, |client, _| async move {
                let stat = client.set(path, &data, *version).await.map_err(|error| about(path, error))?;
                if json {
                    say(&json!({ "path": path, "stat": stat_json(&stat) }));
                }
                Ok(())
            })
        }
        Command::Create { target, path, data, ephemeral, sequential, container, ttl, parents } => {
            if check_path(path, *sequential).is_err() {
                output::note(&format!("`{}` is no path of a znode", harmless(path.as_bytes())));
                return Exit::Usage;
            }
            let Some(data) = input(data) else { return Exit::Usage };
            let kind = CreateKind {
                ephemeral: *ephemeral,
                sequential: *sequential,
                container: *container,
                ttl_ms: *ttl,
            };
            with_ensemble(access, target, |client, events| async move {
                create(&client, events, path, &data, kind, *parents, json).await
            })
        }
        Command::Delete { target, path, recursive, version, yes } => {
            let question = format!("delete `{}` and everything below it?", harmless(path.as_bytes()));
            if *recursive && !*yes && !confirm::confirmed(&question) {
                return Exit::Usage;
            }
            with_ensemble(access, target, |client, _| async move {
                delete(&client, path, *recursive, *version, json).await
            })
        }
        Command::Watch { target, path, recursive, count } => {
            with_ensemble(access, target, |client, events| async move {
                watch(&client, events, path, *recursive, *count, json).await
            })
        }
        Command::Stat { target, path } => {
            with_ensemble(access, target, |client, _| async move { stat(&client, path, json).await })
        }
    }
}

/// The data of an argument; `-` reads standard input.
fn input(text: &str) -> Option<Vec<u8>> {
    if text != "-" {
        return Some(text.as_bytes().to_vec());
    }
    let mut data = Vec::new();
    match std::io::stdin().lock().take(DATA_BYTES_MAX).read_to_end(&mut data) {
        Ok(_) => Some(data),
        Err(error) => {
            output::note(&format!("cannot read standard input: {error}"));
            None
        }
    }
}

/// A failure with the znode it is about.
fn about(path: &str, error: ClientError) -> Failure {
    Failure(Exit::Failure, format!("`{}`: {error}", harmless(path.as_bytes())))
}

fn say(value: &Value) {
    output::result(&format!("{value:#}\n"));
}

fn child(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

async fn ls(client: &Client, path: &str, recursive: bool, json: bool) -> Result<(), Failure> {
    let (names, _) = client.children(path, false).await.map_err(|error| about(path, error))?;
    if !recursive {
        if json {
            say(&json!(names));
        } else {
            let lines: Vec<String> = names.iter().map(|name| harmless(name.as_bytes()) + "\n").collect();
            output::result(&lines.concat());
        }
        return Ok(());
    }
    let mut todo: Vec<String> = names.iter().rev().map(|name| child(path, name)).collect();
    let mut all = Vec::new();
    while let Some(path) = todo.pop() {
        match client.children(&path, false).await {
            Ok((names, _)) => todo.extend(names.iter().rev().map(|name| child(&path, name))),
            // Gone since it was listed.
            Err(ClientError::Code(Code::NoNode)) => continue,
            Err(ClientError::Code(Code::NoAuth)) => {
                output::note(&format!("`{}`: what is below may not be read", harmless(path.as_bytes())));
            }
            Err(error) => return Err(about(&path, error)),
        }
        if json {
            all.push(path);
        } else {
            output::result(&(harmless(path.as_bytes()) + "\n"));
        }
    }
    if json {
        say(&json!(all));
    }
    Ok(())
}

async fn get(client: &Client, path: &str, raw: bool, json: bool) -> Result<(), Failure> {
    let (data, stat) = client.get(path, false).await.map_err(|error| about(path, error))?;
    if json {
        let mut value = json!({ "path": path, "stat": stat_json(&stat) });
        put_data(&mut value, &data);
        say(&value);
    } else if raw {
        let mut out = std::io::stdout().lock();
        if let Err(error) = out.write_all(&data).and_then(|()| out.flush())
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            return Err(Failure(Exit::Failure, format!("cannot write to standard output: {error}")));
        }
    } else {
        output::result(&(shown(&data) + "\n"));
    }
    Ok(())
}

/// Lines stay lines; everything else that a terminal would obey is written out.
fn shown(data: &[u8]) -> String {
    let data = data.strip_suffix(b"\n").unwrap_or(data);
    data.split(|byte| *byte == b'\n').map(harmless).collect::<Vec<_>>().join("\n")
}

/// Text as text, other bytes as base64.
fn put_data(value: &mut Value, data: &[u8]) {
    match std::str::from_utf8(data) {
        Ok(text) => value["data"] = json!(text),
        Err(_) => value["data_base64"] = json!(base64::engine::general_purpose::STANDARD.encode(data)),
    }
}

async fn create(
    client: &Client,
    events: Events,
    path: &str,
    data: &[u8],
    kind: CreateKind,
    parents: bool,
    json: bool,
) -> Result<(), Failure> {
    if parents {
        client.create_parents(path).await.map_err(|error| about(path, error))?;
    }
    let created = client.create(path, data, kind, None).await.map_err(|error| about(path, error))?;
    if json {
        say(&json!({ "path": created.path, "stat": stat_json(&created.stat) }));
    } else {
        output::result(&(harmless(created.path.as_bytes()) + "\n"));
    }
    if !kind.ephemeral {
        return Ok(());
    }
    output::note("stays until Ctrl-C");
    hold(events).await
}

/// Keeps a session until it is ended from here or from there.
async fn hold(mut events: Events) -> Result<(), Failure> {
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            _ = &mut interrupt => return Ok(()),
            event = events.next() => match event {
                Event::Expired => {
                    return Err(Failure(Exit::Failure, "the session has expired: the znode is gone".to_owned()));
                }
                Event::Ended(why) => return Err(Failure(Exit::Failure, why)),
                _ => {}
            }
        }
    }
}

async fn delete(
    client: &Client,
    path: &str,
    recursive: bool,
    version: Option<i32>,
    json: bool,
) -> Result<(), Failure> {
    let mut deleted = 0_u64;
    // Children before their parents; one that gets a child meanwhile is listed again.
    let mut todo = vec![(path.to_owned(), !recursive)];
    while let Some((path, listed)) = todo.pop() {
        if !listed {
            match client.children(&path, false).await {
                Ok((names, _)) => {
                    todo.push((path.clone(), true));
                    todo.extend(names.iter().map(|name| (child(&path, name), false)));
                    continue;
                }
                Err(ClientError::Code(Code::NoNode)) if deleted > 0 => continue,
                Err(error) => return Err(about(&path, error)),
            }
        }
        match client.delete(&path, version).await {
            Ok(()) => deleted += 1,
            Err(ClientError::Code(Code::NotEmpty)) if recursive => todo.push((path, false)),
            Err(ClientError::Code(Code::NoNode)) if deleted > 0 => {}
            Err(error) => return Err(about(&path, error)),
        }
    }
    if json {
        say(&json!({ "deleted": deleted }));
    }
    Ok(())
}

async fn watch(
    client: &Client,
    mut events: Events,
    path: &str,
    recursive: bool,
    count: Option<u64>,
    json: bool,
) -> Result<(), Failure> {
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut left = count.unwrap_or(u64::MAX);
    let mut begun = false;
    while left > 0 {
        let event = tokio::select! {
            _ = &mut interrupt => return Ok(()),
            event = events.next() => event,
        };
        match event {
            Event::Connected { .. } => match client.add_watch(path, recursive).await {
                Ok(()) if begun => output::note("connected again: changes since then were not seen"),
                Ok(()) => begun = true,
                Err(error) if error.is_temporary() => {}
                Err(error) => return Err(about(path, error)),
            },
            Event::Disconnected => {
                let why = client.state().fault.unwrap_or_default();
                output::note(&format!("not connected: {}", harmless(why.as_bytes())));
            }
            Event::Missed => output::note("too many changes: some were not seen"),
            Event::Expired => {}
            Event::Ended(why) => return Err(Failure(Exit::Failure, why)),
            Event::Changed { kind, path } => {
                left -= 1;
                let kind = match kind {
                    EventType::Created => "created",
                    EventType::Deleted => "deleted",
                    EventType::DataChanged => "changed",
                    EventType::ChildrenChanged => "children",
                };
                match json {
                    true => output::result(&format!("{}\n", json!({ "type": kind, "path": path }))),
                    false => output::result(&format!("{kind:8}  {}\n", harmless(path.as_bytes()))),
                }
            }
        }
    }
    Ok(())
}

async fn stat(client: &Client, path: &str, json: bool) -> Result<(), Failure> {
    let stat = client.exists(path, false).await.map_err(|error| about(path, error))?;
    let stat = stat.ok_or_else(|| about(path, ClientError::Code(Code::NoNode)))?;
    let acl = match client.acl(path).await {
        Ok((acl, _)) => Some(acl),
        Err(ClientError::Code(Code::NoAuth)) => None,
        Err(error) => return Err(about(path, error)),
    };
    if json {
        let acl = acl.map(|acl| acl.iter().map(acl_text).collect::<Vec<_>>());
        say(&json!({ "path": path, "stat": stat_json(&stat), "acl": acl }));
        return Ok(());
    }
    let owner = match stat.ephemeral_owner {
        0 => "-".to_owned(),
        session => format!("0x{session:x}"),
    };
    let mut rows = vec![
        vec!["version".to_owned(), stat.version.to_string()],
        vec!["data".to_owned(), format!("{} bytes", stat.data_length)],
        vec!["children".to_owned(), stat.num_children.to_string()],
        vec!["created".to_owned(), format!("{}  0x{:x}", time_text(stat.ctime), stat.czxid)],
        vec!["changed".to_owned(), format!("{}  0x{:x}", time_text(stat.mtime), stat.mzxid)],
        vec!["children changed".to_owned(), format!("0x{:x}", stat.pzxid)],
        vec!["children version".to_owned(), stat.cversion.to_string()],
        vec!["acl version".to_owned(), stat.aversion.to_string()],
        vec!["ephemeral of".to_owned(), owner],
    ];
    match acl {
        Some(acl) => {
            rows.extend(acl.iter().map(|acl| vec!["acl".to_owned(), harmless(acl_text(acl).as_bytes())]));
        }
        None => rows.push(vec!["acl".to_owned(), "may not be read".to_owned()]),
    }
    output::result(&table(&["znode", &harmless(path.as_bytes())], &rows));
    Ok(())
}

/// `world:anyone cdrwa`, as ZooKeeper's own client writes the letters.
fn acl_text(acl: &Acl) -> String {
    const LETTERS: [(i32, char); 5] = [
        (perms::CREATE, 'c'),
        (perms::DELETE, 'd'),
        (perms::READ, 'r'),
        (perms::WRITE, 'w'),
        (perms::ADMIN, 'a'),
    ];
    let letters: String =
        LETTERS.iter().filter(|(bit, _)| acl.perms & bit != 0).map(|(_, letter)| letter).collect();
    format!("{}:{} {letters}", acl.id.scheme, acl.id.id)
}

fn stat_json(stat: &Stat) -> Value {
    json!({
        "czxid": stat.czxid,
        "mzxid": stat.mzxid,
        "pzxid": stat.pzxid,
        "ctime_ms": stat.ctime,
        "mtime_ms": stat.mtime,
        "version": stat.version,
        "cversion": stat.cversion,
        "aversion": stat.aversion,
        "ephemeral_owner": stat.ephemeral_owner,
        "data_length": stat.data_length,
        "num_children": stat.num_children,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_shown_without_what_a_terminal_obeys() {
        assert_eq!(shown(b"a\nb\x1b[2J\n"), "a\nb\\u{1b}[2J");
        assert_eq!(shown(b""), "");
    }

    #[test]
    fn paths_are_checked_before_anybody_is_asked() {
        assert!(parse_path("/a/b").is_ok() && parse_path("/").is_ok());
        for wrong in ["", "a", "/a/", "//", "/a/../b", "/a\u{1}"] {
            assert!(parse_path(wrong).is_err(), "{wrong}");
        }
    }
}
