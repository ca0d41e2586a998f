//! One thread on which a seed decides which of the tasks that can go on does.
//!
//! tokio's own scheduler does not do: a task that was woken runs in the order of its waking, so few
//! interleavings are seen, and the order in which a `watch` wakes its receivers is random.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Builder;

use crate::cache::dice::Dice;
use crate::cache::tasks::{Task, Tasks};

/// No run that ends comes near this many steps.
const STEP_LIMIT: u64 = 50_000;

/// Whose task it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    Client(usize),
    Nature,
    Engine,
}

#[derive(Default)]
pub(super) struct Inbox(Mutex<Vec<Task>>);

/// The engine's tasks come in here.
pub(super) struct Spawner(pub(super) Arc<Inbox>);

impl Tasks for Spawner {
    fn spawn(&self, task: Task) {
        self.0.0.lock().unwrap().push(task);
    }
}

#[derive(Default)]
struct Ready(Mutex<BTreeSet<usize>>);

struct Awakening {
    task: usize,
    ready: Arc<Ready>,
}

impl Wake for Awakening {
    fn wake(self: Arc<Self>) {
        self.ready.0.lock().unwrap().insert(self.task);
    }
}

struct Running {
    party: Party,
    task: Task,
    waker: Waker,
    /// The chance that it is passed over when its turn has come.
    sloth_percent: u64,
    /// It has been polled. A task is never dropped before unless the process stops.
    begun: bool,
}

/// How a run that did not end came to a halt.
#[derive(Debug)]
pub(super) enum Halt {
    /// Nobody can go on, and these are not done.
    Stuck(Vec<Party>),
    /// Somebody goes round in circles.
    Endless,
}

pub(super) struct Executor {
    tasks: Vec<Option<Running>>,
    ready: Arc<Ready>,
    pub(super) inbox: Arc<Inbox>,
    dice: Dice,
    /// How often in ten thousand steps a task of the engine is dropped half-way, as when it panics.
    pub(super) kills_per_myriad: u64,
    pub(super) kills: u64,
    pub(super) steps: u64,
}

impl Executor {
    pub(super) fn new(dice: Dice) -> Self {
        Executor {
            tasks: Vec::new(),
            ready: Arc::default(),
            inbox: Arc::default(),
            dice,
            kills_per_myriad: 0,
            kills: 0,
            steps: 0,
        }
    }

    pub(super) fn spawn(&mut self, party: Party, task: Task) {
        let number = self.tasks.len();
        let waker = Waker::from(Arc::new(Awakening {
            task: number,
            ready: self.ready.clone(),
        }));
        let sloth_percent = self.dice.pick(&[0, 0, 0, 50, 90]);
        self.tasks.push(Some(Running {
            party,
            task,
            waker,
            sloth_percent,
            begun: false,
        }));
        self.ready.0.lock().unwrap().insert(number);
    }

    /// Runs until every task is done; `heard` hears who is about to move.
    ///
    /// Each step is a turn of a tokio runtime's, which has nothing else to do: so a task that goes
    /// round in circles without waiting comes to the end of its budget and is found out.
    pub(super) fn run(&mut self, mut heard: impl FnMut(usize, Party)) -> Result<(), Halt> {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(poll_fn(|context| match self.step(&mut heard) {
            Some(result) => Poll::Ready(result),
            None => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }))
    }

    /// One poll of one task; `None` when there is more to do.
    fn step(&mut self, heard: &mut impl FnMut(usize, Party)) -> Option<Result<(), Halt>> {
        let arrived = std::mem::take(&mut *self.inbox.0.lock().unwrap());
        for task in arrived {
            self.spawn(Party::Engine, task);
        }
        let Some(number) = self.choose() else {
            let left: Vec<_> = self.tasks.iter().flatten().map(|task| task.party).collect();
            return Some(if left.is_empty() {
                Ok(())
            } else {
                Err(Halt::Stuck(left))
            });
        };
        self.steps += 1;
        if self.steps > STEP_LIMIT {
            return Some(Err(Halt::Endless));
        }
        // A task may be woken after it is done.
        let running = self.tasks[number].as_mut()?;
        heard(number, running.party);
        let killed = running.party == Party::Engine
            && running.begun
            && self.dice.below(10_000) < self.kills_per_myriad;
        running.begun = true;
        let mut context = Context::from_waker(&running.waker);
        if killed {
            self.kills += 1;
        }
        if killed || running.task.as_mut().poll(&mut context).is_ready() {
            self.tasks[number] = None;
        }
        None
    }

    fn choose(&mut self) -> Option<usize> {
        let mut ready = self.ready.0.lock().unwrap();
        if ready.is_empty() {
            return None;
        }
        let nth = self.dice.below(ready.len() as u64) as usize;
        let mut chosen = *ready.iter().nth(nth)?;
        if let Some(running) = &self.tasks[chosen]
            && self.dice.chance(running.sloth_percent)
        {
            // Another may go first; it may also be the same again.
            let nth = self.dice.below(ready.len() as u64) as usize;
            chosen = *ready.iter().nth(nth)?;
        }
        ready.remove(&chosen);
        Some(chosen)
    }
}

/// Lets others go first, `times` times.
pub(super) async fn pause(mut times: u64) {
    poll_fn(move |context| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs `inner` and drops it at its `polls`-th poll if it is not done by then. It is polled all the
/// time, woken or not, so that a seed reaches every await at every state of what is awaited.
pub(super) async fn dropped_after<F: Future>(polls: Option<u64>, inner: F) -> Option<F::Output> {
    let mut inner = Some(Box::pin(inner));
    let mut left = polls;
    poll_fn(move |context| {
        if left == Some(0) {
            inner = None;
        }
        if let Some(left) = &mut left {
            *left = left.saturating_sub(1);
            context.waker().wake_by_ref();
        }
        match &mut inner {
            None => Poll::Ready(None),
            Some(inner) => Pin::as_mut(inner).poll(context).map(Some),
        }
    })
    .await
}
