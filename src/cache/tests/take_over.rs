//! Tasks that die in flight: whoever waits for one goes on without it.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::{AbortHandle, JoinHandle};

use super::super::collapse::{Answer, Ask};
use super::super::fetch::{
    FetchError, Framing, InterimSink, Origin, OriginRequest, OriginResponse,
};
use super::super::policy::blocks::BLOCK_BYTES;
use super::super::tasks::{Task, Tasks};
use super::{FRESH, ScriptedOrigin, World, drain, noise};
use crate::byte_range::RangeRequest;
use crate::clock::ManualClock;

/// Runs tasks on tokio and can end them, wherever they stand.
#[derive(Clone, Default)]
struct Mortal(Arc<Mutex<Vec<AbortHandle>>>);

impl Tasks for Mortal {
    fn spawn(&self, task: Task) {
        let handle = tokio::spawn(task).abort_handle();
        self.0.lock().unwrap().push(handle);
    }
}

impl Mortal {
    fn started(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn end(&self, task: usize) {
        let tasks = self.0.lock().unwrap();
        assert!(!tasks[task].is_finished(), "task {task} is not in flight");
        tasks[task].abort();
    }
}

/// Says nothing to its first requests, and then what the script says.
struct SilentAtFirst {
    silences: usize,
    asked: AtomicUsize,
    script: Arc<ScriptedOrigin>,
}

#[async_trait]
impl Origin for SilentAtFirst {
    async fn fetch(
        &self,
        request: &OriginRequest,
        interim: &InterimSink<'_>,
    ) -> Result<OriginResponse, FetchError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) < self.silences {
            pending::<()>().await;
        }
        self.script.fetch(request, interim).await
    }
}

struct Scene {
    world: World,
    tasks: Mortal,
    origin: Arc<SilentAtFirst>,
}

impl Scene {
    fn new(silences: usize) -> Self {
        let tasks = Mortal::default();
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
        let world = World::with(clock, Box::new(tasks.clone()));
        let origin = Arc::new(SilentAtFirst {
            silences,
            asked: AtomicUsize::new(0),
            script: world.origin.clone(),
        });
        Scene {
            world,
            tasks,
            origin,
        }
    }

    fn asked(&self) -> usize {
        self.origin.asked.load(Ordering::Relaxed)
    }

    /// A client that asks now and waits.
    async fn client(&self) -> JoinHandle<Result<Answer, FetchError>> {
        let ask = Ask {
            origin: self.origin.clone(),
            ..self.world.ask(&[], RangeRequest::Whole)
        };
        let cache = self.world.cache.clone();
        let client = tokio::spawn(async move { cache.fetch(ask).await });
        self.world.settle().await;
        client
    }
}

#[tokio::test]
async fn a_waiter_takes_over_when_a_flights_task_dies() {
    let scene = Scene::new(1);
    let starter = scene.client().await;
    let waiters = [
        scene.client().await,
        scene.client().await,
        scene.client().await,
    ];
    assert_eq!((scene.asked(), scene.tasks.started()), (1, 1));

    let feed = (scene.world.origin).respond(200, Framing::Length(3), &[FRESH]);
    feed.send(Ok(Bytes::from_static(b"abc"))).unwrap();
    drop(feed);
    scene.tasks.end(0);
    let error = starter.await.unwrap().err().unwrap();
    assert!(matches!(error, FetchError::Abandoned), "{error:?}");
    let mut collapsed = 0;
    for waiter in waiters {
        let mut answer = waiter.await.unwrap().unwrap();
        collapsed += u32::from(answer.collapsed);
        let mut reader = scene.world.reader(&mut answer, 0..3);
        assert_eq!(drain(&mut reader).await.unwrap(), b"abc");
    }
    // One of them asked for all.
    assert_eq!((scene.asked(), scene.tasks.started(), collapsed), (2, 2, 2));
}

#[tokio::test]
async fn waiters_do_not_take_over_for_ever() {
    let scene = Scene::new(usize::MAX);
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(scene.client().await);
    }
    // Each death ends the client whose task it was. The third that the others see is the last after
    // which they try again; the fourth ends them all.
    for task in 0..4 {
        assert_eq!(scene.asked(), task + 1);
        scene.tasks.end(task);
        scene.world.settle().await;
    }
    assert_eq!(scene.asked(), 4);
    for client in clients {
        let error = client.await.unwrap().err().unwrap();
        assert!(matches!(error, FetchError::Abandoned), "{error:?}");
    }
}

#[tokio::test]
async fn readers_go_on_together_when_the_task_of_a_body_dies() {
    let scene = Scene::new(0);
    let block = BLOCK_BYTES as usize;
    let body = noise(3 * block);
    let length = body.len() as u64;
    let fields = [FRESH, ("etag", "\"v1\"")];
    let feed = (scene.world.origin).respond(200, Framing::Length(length), &fields);
    let clients = [scene.client().await, scene.client().await];
    let mut answers = Vec::new();
    for client in clients {
        answers.push(client.await.unwrap().unwrap());
    }
    let readers = answers.iter_mut();
    let readers = readers.map(|answer| (scene.world.reader(answer, 0..length), Vec::new()));
    let mut readers: Vec<_> = readers.collect();
    let sent = block + 1000;
    feed.send(Ok(Bytes::copy_from_slice(&body[..sent])))
        .unwrap();
    for (reader, seen) in &mut readers {
        while seen.len() < sent {
            let bytes = reader.next().await.unwrap().unwrap();
            seen.extend_from_slice(&bytes);
        }
    }

    scene.tasks.end(0);
    (scene.world.origin).respond_part(&body, block..body.len(), "\"v1\"");
    for (reader, seen) in &mut readers {
        seen.extend(drain(reader).await.unwrap());
        assert!(*seen == body);
    }
    assert_eq!(scene.world.origin.requests(), 2);
    // The block that was whole is not asked for again.
    let rest = format!("bytes={}-{}", block, body.len() - 1);
    assert_eq!(scene.world.origin.sent(1, "range"), Some(rest));
}
