//! Services: started before the parts that use them, shut down after them; channels that nobody drains.

mod support;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use flow_agent::{
    Channel, ChannelError, ChannelStatus, Context, Fault, HostOptions, Registry, Rejected, Running,
    RunningServices, Service, StartFault, Transaction,
};
use flow_plan::plan::{self, OriginId, Target, Topic};
use flow_plan::{Batch, Outcome, Settings};
use support::{Act, Draft, World, lock, output, until};
use tokio::sync::Notify;

/// What the service gives to the channels that write to it: everything that happened, in order.
#[derive(Default)]
struct Shelf {
    said: Mutex<Vec<String>>,
}

static SHELVES: Mutex<BTreeMap<u64, Arc<Shelf>>> = Mutex::new(BTreeMap::new());

fn shelf(world: u64) -> Arc<Shelf> {
    lock(&SHELVES).entry(world).or_default().clone()
}

impl Shelf {
    fn said(&self) -> Vec<String> {
        lock(&self.said).clone()
    }

    fn say(&self, what: impl Into<String>) {
        self.said.lock().unwrap().push(what.into());
    }
}

struct Store(Arc<Shelf>);

#[async_trait]
impl Service for Store {
    fn handle(&self) -> Arc<dyn Any + Send + Sync> {
        self.0.clone()
    }

    async fn open_topic(&self, topic: &Topic) -> Result<(), Fault> {
        if topic.settings.contains_key("refused") {
            return Err(Fault::new("has fewer partitions than before").code("F0710").setting("partitions"));
        }
        self.0.say(format!("topic {}", topic.name));
        Ok(())
    }

    fn address(&self) -> String {
        "here:1".to_owned()
    }

    async fn shutdown(&self) {
        self.0.say("shutdown");
    }
}

/// A channel that is only written to; what is put into it is safe when it is closed.
struct Wall {
    shelf: Arc<Shelf>,
    held: Mutex<Vec<Batch>>,
    closed: Notify,
    broken: bool,
}

#[async_trait]
impl Channel for Wall {
    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        self.shelf.say(format!("put {}", batch.len()));
        self.held.lock().unwrap().push(batch);
        Ok(())
    }

    fn unfit(&self, batch: &Batch) -> Vec<(u32, String)> {
        let long = batch.rows.iter().filter(|&&row| batch.body(row).len() > 10);
        long.map(|&row| (row, "too long".to_owned())).collect()
    }

    fn try_put(&self, batch: Batch) -> Result<(), Rejected> {
        Err(Rejected { batch, closed: false })
    }

    async fn take(&self, _: usize) -> Result<Option<Box<dyn Transaction>>, ChannelError> {
        unreachable!("nobody drains it")
    }

    fn close(&self) {
        self.closed.notify_one();
    }

    async fn settle(&self, warn: &(dyn for<'f> Fn(&'f Fault) + Send + Sync)) -> Result<(), Fault> {
        if self.broken {
            return Err(Fault::new("the log is poisoned"));
        }
        self.closed.notified().await;
        warn(&Fault::new("slow disk"));
        for batch in std::mem::take(&mut *self.held.lock().unwrap()) {
            batch.ack.done();
        }
        self.shelf.say("settled");
        Ok(())
    }

    fn status(&self) -> ChannelStatus {
        ChannelStatus::default()
    }
}

fn registry() -> Registry {
    let mut registry = support::registry();
    registry.services.insert("store", |settings: Settings, _: Context| {
        Box::pin(async move {
            if settings.contains_key("taken") {
                return Err(Fault::new("port 1 is taken").code("F0802").setting("port"));
            }
            let shelf = shelf(settings["world"].as_u64().unwrap());
            Ok(Arc::new(Store(shelf)) as Arc<dyn Service>)
        })
    });
    registry.channels.insert("wall", |settings: &Settings, context: &Context| {
        let shelf = context.service::<Shelf>("events")?;
        shelf.say("channel");
        let broken = settings.contains_key("broken");
        Ok(Arc::new(Wall { shelf, held: Mutex::default(), closed: Notify::new(), broken }))
    });
    registry
}

fn service(world: &World, implicit: bool) -> plan::Service {
    plan::Service {
        word: plan::ServiceWord::Cluster,
        name: "events".into(),
        kind: "store".into(),
        settings: Settings::from_iter([("world".to_owned(), world.id.into())]),
        abilities: Vec::new(),
        origin: OriginId(1),
        setting_origins: BTreeMap::from([("port".to_owned(), OriginId(2))]),
        implicit,
        topics: vec![Topic {
            name: "orders".into(),
            settings: Settings::new(),
            origin: OriginId(3),
            setting_origins: BTreeMap::from([("partitions".to_owned(), OriginId(4))]),
        }],
    }
}

/// A source that writes to a channel which nobody drains.
fn writing(world: &World) -> Draft {
    let mut draft = Draft::new(world);
    draft.agent.channels.push(plan::Channel {
        name: "orders".into(),
        kind: "wall".into(),
        settings: Settings::new(),
        abilities: Vec::new(),
        origin: OriginId(3),
        setting_origins: BTreeMap::new(),
        implicit: false,
        drain: None,
    });
    draft.source("in", vec![output(Target::Channel(0))]);
    draft
}

async fn start(draft: &Draft, service: plan::Service, world: &World) -> Result<Running, Vec<StartFault>> {
    let mut plan = draft.plan();
    plan.services.push(service);
    let options = HostOptions::new(world.dir.path().to_owned());
    let services = RunningServices::start(&plan, &registry(), &options).await?;
    world.start_in(&plan, &registry(), |options| options.services = services)
}

#[tokio::test(start_paused = true)]
async fn a_service_lives_longer_than_what_writes_to_it() {
    let world = World::new();
    let running = start(&writing(&world), service(&world, true), &world).await.unwrap();
    world.send("in", &["a", "b"]);
    world.act("in", Act::Finish);
    let end = running.wait().await;
    assert!(!end.failed, "{end:?}");
    assert_eq!(shelf(world.id).said(), ["topic orders", "channel", "put 2", "settled", "shutdown"]);
    // The run waited until the events were safe.
    assert_eq!(lock(&world.receipts)[0].try_recv(), Ok(Outcome::Delivered));
    let status = running.status();
    assert_eq!((status.services[0].name.as_str(), status.services[0].address.as_str()), ("events", "here:1"));
    assert!(status.agents[0].channels[0].program.is_none());
    let fault = status.agents[0].channels[0].last_fault.clone().unwrap();
    assert_eq!((fault.fault.message.as_str(), fault.origin), ("slow disk", OriginId(3)));
}

#[tokio::test(start_paused = true)]
async fn a_written_service_serves_until_the_run_is_stopped() {
    let world = World::new();
    let running = start(&writing(&world), service(&world, false), &world).await.unwrap();
    world.act("in", Act::Finish);
    until("the channel is safe", || shelf(world.id).said().contains(&"settled".to_owned())).await;
    support::pass(std::time::Duration::from_secs(3_600)).await;
    assert!(!shelf(world.id).said().contains(&"shutdown".to_owned()));
    running.stop();
    assert!(!running.wait().await.failed);
    assert_eq!(shelf(world.id).said().last().unwrap(), "shutdown");
}

#[tokio::test(start_paused = true)]
async fn faults_of_services_and_topics_point_to_their_settings() {
    let world = World::new();
    let mut taken = service(&world, true);
    taken.settings.insert("taken".into(), true.into());
    let faults = start(&writing(&world), taken, &world).await.map(drop).unwrap_err();
    assert_eq!((faults[0].fault.code, faults[0].origin), (Some("F0802"), OriginId(2)));
    let mut fewer = service(&world, true);
    fewer.topics[0].settings.insert("refused".into(), true.into());
    // What had started before the fault is shut down again.
    let faults = start(&writing(&world), fewer, &world).await.map(drop).unwrap_err();
    assert_eq!((faults[0].node.as_str(), faults[0].origin), ("orders", OriginId(4)));
    let mut unknown = service(&world, true);
    unknown.kind = "zoo".into();
    let faults = start(&writing(&world), unknown, &world).await.map(drop).unwrap_err();
    assert_eq!(faults[0].fault.code, Some("F0116"));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_cannot_go_on_ends_the_run() {
    let world = World::new();
    let mut draft = writing(&world);
    draft.agent.channels[0].settings.insert("broken".into(), true.into());
    let running = start(&draft, service(&world, true), &world).await.unwrap();
    let end = running.wait().await;
    assert!(end.failed);
    assert_eq!(end.faults[0].fault.message, "the log is poisoned");
    assert_eq!(shelf(world.id).said().last().unwrap(), "shutdown");
}

#[tokio::test(start_paused = true)]
async fn events_that_never_fit_are_kept_aside() {
    let world = World::new();
    let running = start(&writing(&world), service(&world, true), &world).await.unwrap();
    world.send("in", &["short", "much too long to fit", "fits"]);
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert!(shelf(world.id).said().contains(&"put 2".to_owned()));
    assert_eq!(lock(&world.receipts)[0].try_recv(), Ok(Outcome::Delivered));
    let dead = world.dead("orders");
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0]["error"].as_str(), dead[0]["body"].as_str()),
        (Some("too long"), Some("much too long to fit"))
    );
}
