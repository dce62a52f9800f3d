//! The crate `zookeeper-client`: a program of cases like the others, in Rust. It has what kazoo lacks: persistent and
//! recursive watches, watches that are carried over to another connection, containers, TTLs, several reads in one
//! request.

use std::fmt::Debug;
use std::future::Future;
use std::io::BufRead;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use zookeeper_client::{
    Acl, Acls, AddWatchMode, AuthId, Client, CreateMode, CreateOptions, Error, EventType, LockPrefix,
    MultiReadResult, MultiWriteError, MultiWriteResult, Permission, SessionState, WatchedEvent,
};

/// The first argument of the process that is this program.
pub const COMMAND: &str = "be-a-zookeeper-client";

/// Longer than anything takes that a server owes at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest session that the servers give.
const SESSION: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T = ()> = std::result::Result<T, Failure>;
type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = Result>>>);

macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), || Box::pin($name()))),*] };
}

const CASES: &[Case] = cases![
    operations,
    errors,
    kinds_of_nodes,
    rights,
    transactions,
    reads_in_one_request,
    watches_that_fire_once,
    persistent_watch,
    recursive_watch,
    removed_watches,
    lock_goes_round,
    session_is_taken_up,
    watches_live_through_a_restart,
];

pub fn run(arguments: &[String]) -> ExitCode {
    let part = arguments.first().map_or("", String::as_str);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(part)) {
        let begin = Instant::now();
        let result = runtime.block_on(async { tokio::time::timeout(PATIENCE * 2, case()).await });
        match result {
            Ok(Ok(())) => println!("ok {name} {:.1}s", begin.elapsed().as_secs_f64()),
            Ok(Err(error)) => println!("FAILED {name}: {}", error.to_string().replace('\n', " ")),
            Err(_) => println!("FAILED {name}: it does not end"),
        }
    }
    println!("end");
    ExitCode::SUCCESS
}

fn hosts() -> String {
    std::env::var("FLOW_INTEROP_ZOOKEEPER").unwrap_or_else(|_| "127.0.0.1:2181".to_owned())
}

async fn connect() -> Result<Client> {
    Ok(Client::connector().with_session_timeout(SESSION).connect(&hosts()).await?)
}

const OPEN: Acls<'static> = Acls::anyone_all();

fn persistent() -> CreateOptions<'static> {
    CreateMode::Persistent.with_acls(OPEN)
}

/// A client that sees only what is below a node that nobody used before.
async fn rooted() -> Result<(Client, String)> {
    let client = connect().await?;
    let root = format!("/case-{:016x}", rand::random::<u64>());
    client.create(&root, b"", &persistent()).await?;
    let client = client.chroot(root.clone()).map_err(|_| "no chroot")?;
    Ok((client, root))
}

/// Another client of the same place, that has seen what was written before.
async fn another(root: &str) -> Result<Client> {
    let client = connect().await?;
    client.sync(root).await?;
    Ok(client.chroot(root.to_owned()).map_err(|_| "no chroot")?)
}

fn same<T: PartialEq + Debug>(found: T, expected: T, what: &str) -> Result {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, expected {expected:?}").into()) }
}

fn fails<T: Debug>(found: std::result::Result<T, Error>, expected: Error) -> Result {
    match found {
        Err(error) if error == expected => Ok(()),
        other => Err(format!("{other:?}, expected {expected:?}").into()),
    }
}

fn told(event: WatchedEvent) -> (EventType, String) {
    (event.event_type, event.path)
}

/// The next event, without those that tell of connections.
async fn next(watcher: &mut zookeeper_client::PersistentWatcher) -> Result<(EventType, String)> {
    loop {
        let event = tokio::time::timeout(PATIENCE, watcher.changed()).await?;
        if event.event_type != EventType::Session {
            return Ok(told(event));
        }
    }
}

async fn once(watcher: zookeeper_client::OneshotWatcher) -> Result<(EventType, String)> {
    Ok(told(tokio::time::timeout(PATIENCE, watcher.changed()).await?))
}

async fn operations() -> Result {
    let (one, root) = rooted().await?;
    let (made, _) = one.create("/a", b"one", &persistent()).await?;
    same((made.version, made.data_length, made.czxid), (0, 3, made.mzxid), "the stat of a new node")?;
    let (data, stat) = one.get_data("/a").await?;
    same((data.as_slice(), stat), (b"one".as_slice(), made), "what is read")?;
    let changed = one.set_data("/a", b"two!", Some(0)).await?;
    same((changed.version, changed.data_length), (1, 4), "the stat after a change")?;
    one.create("/a/b", b"", &persistent()).await?;
    let (children, stat) = one.get_children("/a").await?;
    same((children, stat.num_children, stat.cversion), (vec!["b".to_owned()], 1, 1), "the children")?;
    same(one.list_children("/").await?, vec!["a".to_owned()], "the children of the root")?;
    same(one.count_descendants_number("/").await?, 2, "how many are below")?;
    one.delete("/a/b", None).await?;
    one.delete("/a", Some(1)).await?;
    same(one.check_stat("/a").await?, None, "what was deleted")?;
    one.mkdir("/deep/er/down", &persistent()).await?;
    same(another(&root).await?.count_descendants_number("/").await?, 3, "how many are below")
}

async fn errors() -> Result {
    let (one, _) = rooted().await?;
    fails(one.get_data("/none").await, Error::NoNode)?;
    fails(one.delete("/none", None).await, Error::NoNode)?;
    fails(one.list_children("/none").await, Error::NoNode)?;
    one.create("/a", b"", &persistent()).await?;
    fails(one.create("/a", b"", &persistent()).await.map(drop), Error::NodeExists)?;
    fails(one.set_data("/a", b"", Some(5)).await, Error::BadVersion)?;
    one.create("/e", b"", &CreateMode::Ephemeral.with_acls(OPEN)).await?;
    fails(one.create("/e/below", b"", &persistent()).await.map(drop), Error::NoChildrenForEphemerals)?;
    one.create("/a/b", b"", &persistent()).await?;
    fails(one.delete("/a", None).await, Error::NotEmpty)?;
    let nobody = [Acl::new(Permission::ALL, AuthId::new("nobody", "knows"))];
    let options = CreateMode::Persistent.with_acls(Acls::new(&nobody));
    fails(one.create("/acl", b"", &options).await.map(drop), Error::InvalidAcl)
}

async fn kinds_of_nodes() -> Result {
    let (one, _) = rooted().await?;
    let sequential = CreateMode::PersistentSequential.with_acls(OPEN);
    for expected in 0..3 {
        let (_, sequence) = one.create("/s-", b"", &sequential).await?;
        same(sequence.into_i64(), expected, "the number")?;
    }
    let ephemeral = CreateMode::EphemeralSequential.with_acls(OPEN);
    let (stat, sequence) = one.create("/e-", b"", &ephemeral).await?;
    same((stat.ephemeral_owner, sequence.into_i64()), (one.session_id().0, 3), "the owner and the number")?;
    same(one.list_ephemerals("/").await?, vec!["/e-0000000003".to_owned()], "what the session owns")?;
    let mut ended = one.watch("/ttl", AddWatchMode::Persistent).await?;
    let ttl = persistent().with_ttl(Duration::from_millis(200));
    let (stat, _) = one.create("/ttl", b"", &ttl).await?;
    same(stat.ephemeral_owner, 0, "the owner of a node with a TTL")?;
    let (stat, _) = one.create("/container", b"", &CreateMode::Container.with_acls(OPEN)).await?;
    same(stat.ephemeral_owner, 0, "the owner of a container")?;
    one.create("/container/a", b"", &persistent()).await?;
    for expected in [EventType::NodeCreated, EventType::NodeDeleted] {
        same(next(&mut ended).await?, (expected, "/ttl".to_owned()), "the event of a TTL")?;
    }
    let (_, _, changed) = one.get_and_watch_data("/container").await?;
    one.delete("/container/a", None).await?;
    same(once(changed).await?, (EventType::NodeDeleted, "/container".to_owned()), "the event of a container")
}

async fn rights() -> Result {
    let (one, root) = rooted().await?;
    one.auth("digest", b"alice:secret").await?;
    let users = one.list_auth_users().await?;
    let user = users.iter().find(|user| user.scheme() == "digest").ok_or("no user")?;
    same(user.user(), "alice", "who one is")?;
    one.create("/mine", b"x", &CreateMode::Persistent.with_acls(Acls::creator_all())).await?;
    let (acl, stat) = one.get_acl("/mine").await?;
    same((acl[0].scheme(), stat.aversion), ("digest", 0), "the rights")?;
    let other = another(&root).await?;
    fails(other.get_data("/mine").await, Error::NoAuth)?;
    fails(other.get_acl("/mine").await, Error::NoAuth)?;
    let changed = one.set_acl("/mine", &Acls::anyone_read(), Some(0)).await?;
    same(changed.aversion, 1, "the version")?;
    other.sync("/").await?;
    same(other.get_data("/mine").await?.0, b"x".to_vec(), "what everyone may read")?;
    fails(one.set_data("/mine", b"y", None).await, Error::NoAuth)?;
    fails(other.auth("nobody", b"knows").await, Error::AuthFailed)
}

async fn transactions() -> Result {
    let (one, _) = rooted().await?;
    one.create("/a", b"", &persistent()).await?;
    let mut work = one.new_multi_writer();
    work.add_check_version("/a", 0)?;
    work.add_create("/b", b"", &persistent())?;
    work.add_create("/b/s-", b"", &CreateMode::PersistentSequential.with_acls(OPEN))?;
    work.add_set_data("/b", b"x", Some(0))?;
    work.add_delete("/a", None)?;
    let results = work.commit().await?;
    same(results.len(), 5, "how many results")?;
    match &results[..] {
        [
            MultiWriteResult::Check,
            MultiWriteResult::Create { path, .. },
            MultiWriteResult::Create { path: sequential, .. },
            MultiWriteResult::SetData { stat },
            MultiWriteResult::Delete,
        ] => {
            same((path.as_str(), sequential.as_str()), ("/b", "/b/s-0000000000"), "the paths")?;
            same(stat.version, 1, "the version")?;
        }
        other => return Err(format!("the results are {other:?}").into()),
    }
    let mut work = one.new_multi_writer();
    work.add_create("/c", b"", &persistent())?;
    work.add_check_version("/b", 7)?;
    match work.commit().await {
        Err(MultiWriteError::OperationFailed { index: 1, source: Error::BadVersion }) => {}
        other => return Err(format!("the result is {other:?}").into()),
    }
    same(one.check_stat("/c").await?, None, "what was not made")
}

async fn reads_in_one_request() -> Result {
    let (one, _) = rooted().await?;
    one.create("/a", b"x", &persistent()).await?;
    let mut reader = one.new_multi_reader();
    reader.add_get_data("/a")?;
    reader.add_get_children("/")?;
    reader.add_get_data("/none")?;
    match &reader.commit().await?[..] {
        [
            MultiReadResult::Data { data, .. },
            MultiReadResult::Children { children },
            MultiReadResult::Error { err: Error::NoNode },
        ] => {
            same(data.as_slice(), b"x", "the data")?;
            same(children.as_slice(), &["a".to_owned()], "the children")
        }
        other => Err(format!("the results are {other:?}").into()),
    }
}

async fn watches_that_fire_once() -> Result {
    let (one, root) = rooted().await?;
    let other = another(&root).await?;
    let (stat, made) = one.check_and_watch_stat("/a").await?;
    same(stat, None, "what is not there")?;
    let (_, _, below) = one.get_and_watch_children("/").await?;
    other.create("/a", b"", &persistent()).await?;
    same(once(made).await?, (EventType::NodeCreated, "/a".to_owned()), "the event")?;
    same(once(below).await?, (EventType::NodeChildrenChanged, "/".to_owned()), "the event")?;
    let (_, _, changed) = one.get_and_watch_data("/a").await?;
    other.set_data("/a", b"1", None).await?;
    same(once(changed).await?, (EventType::NodeDataChanged, "/a".to_owned()), "the event")?;
    let (_, _, changed) = one.get_and_watch_data("/a").await?;
    other.delete("/a", None).await?;
    same(once(changed).await?, (EventType::NodeDeleted, "/a".to_owned()), "the event")
}

async fn persistent_watch() -> Result {
    let (one, root) = rooted().await?;
    let other = another(&root).await?;
    let mut watcher = one.watch("/a", AddWatchMode::Persistent).await?;
    other.create("/a", b"", &persistent()).await?;
    other.set_data("/a", b"1", None).await?;
    other.create("/a/b", b"", &persistent()).await?;
    other.set_data("/a/b", b"not seen", None).await?;
    other.delete("/a/b", None).await?;
    other.delete("/a", None).await?;
    other.create("/a", b"", &persistent()).await?;
    for expected in [
        EventType::NodeCreated,
        EventType::NodeDataChanged,
        EventType::NodeChildrenChanged,
        EventType::NodeChildrenChanged,
        EventType::NodeDeleted,
        EventType::NodeCreated,
    ] {
        same(next(&mut watcher).await?, (expected, "/a".to_owned()), "the event")?;
    }
    Ok(())
}

async fn recursive_watch() -> Result {
    let (one, root) = rooted().await?;
    let other = another(&root).await?;
    let mut watcher = one.watch("/", AddWatchMode::PersistentRecursive).await?;
    other.create("/a", b"", &persistent()).await?;
    other.create("/a/b", b"", &persistent()).await?;
    other.set_data("/a/b", b"1", None).await?;
    let mut work = other.new_multi_writer();
    work.add_set_data("/a", b"2", None)?;
    work.add_delete("/a/b", None)?;
    work.commit().await?;
    other.delete("/a", None).await?;
    for (kind, path) in [
        (EventType::NodeCreated, "/a"),
        (EventType::NodeCreated, "/a/b"),
        (EventType::NodeDataChanged, "/a/b"),
        (EventType::NodeDataChanged, "/a"),
        (EventType::NodeDeleted, "/a/b"),
        (EventType::NodeDeleted, "/a"),
    ] {
        same(next(&mut watcher).await?, (kind, path.to_owned()), "the event")?;
    }
    Ok(())
}

async fn removed_watches() -> Result {
    let (one, root) = rooted().await?;
    let other = another(&root).await?;
    one.create("/a", b"", &persistent()).await?;
    let (_, _, changed) = one.get_and_watch_data("/a").await?;
    drop(changed);
    let watcher = one.watch("/a", AddWatchMode::PersistentRecursive).await?;
    drop(watcher);
    let mut kept = one.watch("/", AddWatchMode::PersistentRecursive).await?;
    other.set_data("/a", b"", None).await?;
    same(next(&mut kept).await?, (EventType::NodeDataChanged, "/a".to_owned()), "the event")
}

async fn lock_goes_round() -> Result {
    let (one, root) = rooted().await?;
    one.create("/locks", b"", &persistent()).await?;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let client = another(&root).await?;
        workers.spawn(async move {
            for _ in 0..3 {
                let prefix = LockPrefix::new_curator("/locks", "worker")?;
                let lock = client.lock(prefix, format!("{worker}").as_bytes(), OPEN).await?;
                // Two who are inside at a time would find it, or lose it.
                lock.create("/inside", b"", &persistent()).await?;
                lock.delete("/inside", None).await?;
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    Ok(())
}

async fn session_is_taken_up() -> Result {
    let one = Client::connector().with_session_timeout(SESSION).with_detached().connect(&hosts()).await?;
    let path = format!("/mine-{:016x}", rand::random::<u64>());
    one.create(&path, b"x", &CreateMode::Ephemeral.with_acls(OPEN)).await?;
    let session = one.into_session();
    let id = session.id();
    let heir = Client::connector().with_session(session).connect(&hosts()).await?;
    same(heir.session_id(), id, "the session")?;
    let (data, stat) = heir.get_data(&path).await?;
    same((data.as_slice(), stat.ephemeral_owner), (b"x".as_slice(), id.0), "what it owns")
}

/// Over the death of the servers. Those of children and the persistent ones this client does not carry over, to
/// ZooKeeper neither: `zookeeper_differential` asks for them in bytes.
async fn watches_live_through_a_restart() -> Result {
    let (one, _) = rooted().await?;
    one.create("/data", b"", &persistent()).await?;
    let (_, _, data) = one.get_and_watch_data("/data").await?;
    let (_, exists) = one.check_and_watch_stat("/later").await?;
    let mut state = one.state_watcher();
    let servers = hosts().split(',').count();
    (1..=servers).try_for_each(|server| ensemble(&format!("kill {server}")))?;
    (1..=servers).try_for_each(|server| ensemble(&format!("launch {server}")))?;
    loop {
        match tokio::time::timeout(PATIENCE, state.changed()).await? {
            SessionState::SyncConnected => break,
            SessionState::Disconnected => {}
            other => return Err(format!("the session is {other:?}").into()),
        }
    }
    one.set_data("/data", b"1", None).await?;
    one.create("/later", b"", &persistent()).await?;
    same(once(data).await?, (EventType::NodeDataChanged, "/data".to_owned()), "the event")?;
    same(once(exists).await?, (EventType::NodeCreated, "/later".to_owned()), "the event")
}

/// Lets the harness do something with a server, and waits until that is done.
fn ensemble(command: &str) -> Result {
    println!("ensemble: {command}");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == "done" { Ok(()) } else { Err(format!("`{command}`: {answer}").into()) }
}
