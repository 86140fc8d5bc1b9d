//! The thread that owns the store: takes write-sets, commits all that wait together, says up to where they are durable.
//!
//! The queue has [`QUEUE`] places. What finds it full is merged into one set that waits beside it, so a commit never
//! blocks the event loop; that set is bounded by what the core holds in memory. The answer is a cumulative state, not a
//! message for each batch, so this thread never waits for the event loop either. A store that cannot write says so and
//! tries again every five seconds, together with what has come since: what is not durable is never called durable. What
//! can never be written ends the thread, and with it the node: nothing of it was promised, and the next start is in order.
//! A copy of the store ([`copying`]) is made between commits, a page at a time. A checkpoint is written by a thread of its
//! own beside commits, which rests most of the time (`pace.rs`): nothing would be durable meanwhile.

pub mod copying;
mod pace;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crosstalk_storage::{CheckpointError, CommitError, Store, WriteSet, Written};
use tokio::sync::watch;
use tokio::time::Instant;

use copying::{Copier, Copying, Step};
use pace::{Hurry, Pace};

/// Batches that wait for the thread.
pub const QUEUE: usize = 128;
/// Bytes that are committed together, unless one batch alone is larger: what was gathered while the disk was full.
const GROUP_BYTES: usize = 4 << 20;
/// How long after a failure the same is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long until it is looked again whether there is room for the next piece of a copy.
const ROOM: Duration = Duration::from_millis(20);

/// How long nothing has to be committed before a checkpoint begins: it makes the disk slow, a tenth of a second and more.
/// Where there is no such pause it begins when it presses.
const PAUSE: Duration = Duration::from_millis(200);
/// How long until it is looked again whether a checkpoint is written, while nothing is committed.
const WRITING: Duration = Duration::from_millis(20);

/// What the thread says about the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// This batch and all before it are durable.
    pub committed: Option<u64>,
    /// Why nothing can be written now, and what to do about it.
    pub trouble: Option<String>,
}

/// How a store ended.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// Changes that nobody was promised could not be written.
    #[error("the last changes could not be saved, none of them was confirmed to anybody: {0}")]
    Unsaved(CommitError),
    /// The journal could not be emptied; the next start replays it.
    #[error("the store was not closed in order, nothing is lost: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The thread failed.
    #[error("the store's thread failed: start again, the store repairs itself")]
    Failed,
}

/// How many groups were made durable since the start; clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Flushes(Arc<AtomicU64>);

impl Flushes {
    /// So many.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A batch and its number.
type Batch = (u64, WriteSet);

/// What the thread is to do.
#[derive(Debug)]
enum Order {
    Commit(Batch),
    Copy(Copier),
}

/// Handle of the thread.
#[derive(Debug)]
pub struct StoreThread {
    orders: SyncSender<Order>,
    /// What found the queue full: the number of the last batch, and all changes since.
    held: Option<Batch>,
    state: watch::Receiver<State>,
    flushes: Flushes,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), CloseError>>,
}

impl StoreThread {
    /// Gives the store a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(store: Store) -> io::Result<Self> {
        let (orders, queue) = sync_channel(QUEUE);
        let (publish, state) = watch::channel(State::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let flushes = Flushes::default();
        let counted = flushes.clone();
        let stop = Arc::clone(&stopping);
        let keeper = Keeper {
            store,
            queue,
            publish,
            flushes: counted,
            stopping: stop,
            copying: None,
            checkpoint: Writing::Idle,
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || keeper.run())?;
        Ok(Self { orders, held: None, state, flushes, stopping, thread })
    }

    /// Hands a batch over; never blocks.
    pub fn commit(&mut self, batch: u64, writes: WriteSet) {
        match &mut self.held {
            Some((last, held)) => {
                *last = batch;
                held.merge(writes);
            }
            None => self.held = Some((batch, writes)),
        }
        self.push();
    }

    /// Hands over what found the queue full; call it when the state has changed.
    pub fn push(&mut self) {
        let Some(held) = self.held.take() else { return };
        match self.orders.try_send(Order::Commit(held)) {
            Err(TrySendError::Full(Order::Commit(held))) => self.held = Some(held),
            // That the thread has failed shows in its state.
            Ok(()) | Err(TrySendError::Full(Order::Copy(_)) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Has the store copied, beside whatever is committed meanwhile. Dropped without a last piece: there is no room for
    /// it now, another copy is being made, or the thread ends.
    pub fn copy(&mut self, to: Copier) {
        let _ = self.orders.try_send(Order::Copy(to));
    }

    /// What the thread says, now and whenever it changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// How many groups were made durable.
    pub fn flushes(&self) -> Flushes {
        self.flushes.clone()
    }

    /// Commits what is queued, closes the store in order and waits for that.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn close(self) -> Result<(), CloseError> {
        self.stopping.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if let Some(held) = self.held {
            // The thread is emptying the queue, or has ended, which the join below tells.
            let _ = self.orders.send(Order::Commit(held));
        }
        drop(self.orders);
        self.thread.join().unwrap_or(Err(CloseError::Failed))
    }
}

struct Keeper {
    store: Store,
    queue: Receiver<Order>,
    publish: watch::Sender<State>,
    flushes: Flushes,
    stopping: Arc<AtomicBool>,
    copying: Option<Copying>,
    checkpoint: Writing,
}

/// The checkpoint.
enum Writing {
    Idle,
    Begun {
        writing: JoinHandle<Written>,
        hurry: Hurry,
    },
    /// The last one failed: not before then.
    Failed(Instant),
}

impl Keeper {
    fn run(mut self) -> Result<(), CloseError> {
        let mut next = None;
        loop {
            self.maintain();
            let Some(order) = next.take().or_else(|| self.queue.try_recv().ok()) else {
                match self.rest() {
                    Ok(order) => next = order,
                    Err(Ended) => {
                        self.end_checkpoint();
                        return Ok(self.store.close()?);
                    }
                }
                continue;
            };
            match order {
                Order::Commit(first) => {
                    let mut group = Group { last: first.0, bytes: first.1.bytes(), sets: vec![first.1] };
                    next = self.write(&mut group)?;
                    self.copy_on(&group.sets);
                }
                Order::Copy(to) if self.copying.is_none() => self.copying = Some(Copying::new(to)),
                Order::Copy(_) => {}
            }
        }
    }

    /// Nothing waits to be committed.
    fn rest(&mut self) -> Result<Option<Order>, Ended> {
        let (look_again, begins) = match (self.copy_on(&[]), &self.checkpoint) {
            (Step::More, _) => return Ok(None),
            (Step::Full, _) => (ROOM, false),
            (Step::End, Writing::Begun { .. }) => (WRITING, false),
            (Step::End, Writing::Idle) if self.store.is_checkpoint_due() => (PAUSE, true),
            (Step::End, Writing::Idle | Writing::Failed(_)) => {
                return self.queue.recv().map(Some).map_err(|_| Ended);
            }
        };
        match self.queue.recv_timeout(look_again) {
            Ok(order) => return Ok(Some(order)),
            Err(RecvTimeoutError::Timeout) if begins => self.begin_checkpoint(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Ended),
        }
        Ok(None)
    }

    /// A copy that is being made goes on by a piece, also where commits never pause.
    fn copy_on(&mut self, committed: &[WriteSet]) -> Step {
        let Some(copying) = &mut self.copying else { return Step::End };
        copying.changed(committed);
        let step = copying.step(&self.store);
        if step == Step::End {
            self.copying = None;
        }
        step
    }

    /// Commits what waits together, however long it takes, unless the node is stopping. Gives back what does not belong to them.
    fn write(&mut self, group: &mut Group) -> Result<Option<Order>, CloseError> {
        let mut left = group.fill(&self.queue);
        while let Err(error) = self.store.commit(&group.sets) {
            if error.is_final() {
                tracing::error!(
                    "changes that nobody was promised can never be saved, the node ends: {error}"
                );
            }
            if error.is_final() || self.stopping.load(Ordering::Acquire) {
                return Err(CloseError::Unsaved(error));
            }
            self.say(|state| state.trouble = Some(error.to_string()));
            // A shorter journal may be what makes room.
            if let Writing::Begun { hurry, .. } = &self.checkpoint {
                hurry.up();
            }
            std::thread::park_timeout(RETRY);
            if matches!(&self.checkpoint, Writing::Begun { writing, .. } if writing.is_finished()) {
                self.end_checkpoint();
            }
            if left.is_none() {
                left = group.fill(&self.queue);
            }
        }
        self.flushes.0.fetch_add(1, Ordering::Relaxed);
        let committed = Some(group.last);
        self.say(|state| *state = State { committed, trouble: None });
        Ok(left)
    }

    fn say(&self, change: impl FnOnce(&mut State)) {
        self.publish.send_if_modified(|state| {
            let before = state.clone();
            change(state);
            *state != before
        });
    }

    /// Begins a checkpoint that presses, and ends it when it is written, or must be before commits go on.
    fn maintain(&mut self) {
        match &self.checkpoint {
            Writing::Begun { writing, .. } if writing.is_finished() || self.store.is_checkpoint_overdue() => {
                self.end_checkpoint();
            }
            Writing::Failed(again) if Instant::now() < *again => {}
            Writing::Idle | Writing::Failed(_) if self.store.is_checkpoint_pressing() => {
                self.begin_checkpoint();
            }
            Writing::Begun { .. } | Writing::Idle | Writing::Failed(_) => {}
        }
    }

    fn begin_checkpoint(&mut self) {
        self.checkpoint = match self.store.begin_checkpoint() {
            Ok(None) => Writing::Idle,
            Ok(Some(begun)) => {
                let hurry = Hurry::default();
                let pace = Pace::new(hurry.clone());
                let write = move || begun.write(&|| pace.rest());
                match std::thread::Builder::new().name("checkpoint".into()).spawn(write) {
                    Ok(writing) => Writing::Begun { writing, hurry },
                    Err(error) => failed(&error),
                }
            }
            Err(error) => failed(&error),
        };
    }

    /// Waits for the checkpoint that is being written, if there is one.
    fn end_checkpoint(&mut self) {
        let Writing::Begun { writing, hurry } = std::mem::replace(&mut self.checkpoint, Writing::Idle) else {
            return;
        };
        hurry.up();
        let ended = match writing.join() {
            Ok(written) => self.store.end_checkpoint(written).map_err(|error| error.to_string()),
            Err(_) => Err("the thread that wrote it failed".to_owned()),
        };
        if let Err(error) = ended {
            self.checkpoint = failed(&error);
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> Writing {
    tracing::warn!("the journal cannot be emptied, commits go on: {error}");
    Writing::Failed(Instant::now() + RETRY)
}

/// Nobody gives orders any more.
struct Ended;

/// Batches that are committed together.
struct Group {
    last: u64,
    bytes: usize,
    sets: Vec<WriteSet>,
}

impl Group {
    /// Takes what waits and fits; gives back what did not, or is no batch.
    fn fill(&mut self, queue: &Receiver<Order>) -> Option<Order> {
        while let Ok(order) = queue.try_recv() {
            let Order::Commit((batch, writes)) = order else { return Some(order) };
            if self.bytes + writes.bytes() > GROUP_BYTES {
                return Some(Order::Commit((batch, writes)));
            }
            self.bytes += writes.bytes();
            self.last = batch;
            self.sets.push(writes);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosstalk_storage::{MemoryDisk, Options, Tree};

    fn put(key: impl Into<Vec<u8>>) -> WriteSet {
        let mut writes = WriteSet::new();
        writes.put(Tree::Outbox, key, "value");
        writes
    }

    async fn until(state: &mut watch::Receiver<State>, condition: impl Fn(&State) -> bool) -> State {
        let said = state.wait_for(condition);
        tokio::time::timeout(Duration::from_secs(30), said)
            .await
            .expect("in time")
            .expect("the thread runs")
            .clone()
    }

    #[tokio::test]
    async fn batches_become_durable_in_order() {
        let disk = MemoryDisk::new();
        let (store, _, _) = Store::open_memory(&disk, Options::default()).expect("opened");
        let mut thread = StoreThread::start(store).expect("started");
        for batch in 0..300 {
            thread.commit(batch, put(batch.to_string()));
        }
        thread.close().expect("closed");
        let (_, contents, _) = Store::open_memory(&disk, Options::default()).expect("opened");
        assert_eq!(contents.tree(Tree::Outbox).count(), 300);
    }

    /// A keeper of a store whose journal has so many times its limit, and who gives it orders.
    fn overfull(disk: &MemoryDisk, times: u64) -> (Keeper, SyncSender<Order>) {
        let (mut store, _, _) = Store::open_memory(disk, Options::default()).expect("opened");
        for number in 0..(times * Options::default().journal_limit) >> 19 {
            let mut writes = WriteSet::new();
            writes.put(Tree::Inbox, number.to_be_bytes(), vec![0; 1 << 19]);
            store.commit(&[writes]).expect("committed");
        }
        assert!(store.is_checkpoint_due());
        let (orders, queue) = sync_channel(QUEUE);
        let keeper = Keeper {
            store,
            queue,
            publish: watch::channel(State::default()).0,
            flushes: Flushes::default(),
            stopping: Arc::default(),
            copying: None,
            checkpoint: Writing::Idle,
        };
        (keeper, orders)
    }

    #[test]
    fn commits_go_on_beside_a_checkpoint_that_is_written() {
        let disk = MemoryDisk::new();
        let (mut keeper, orders) = overfull(&disk, 3);
        let (hold, held) = sync_channel::<()>(0);
        let begun = keeper.store.begin_checkpoint().expect("room").expect("due");
        let writing = std::thread::spawn(move || {
            let _ = held.recv();
            begun.write(&|| ())
        });
        keeper.checkpoint = Writing::Begun { writing, hurry: Hurry::default() };
        orders.send(Order::Commit((1, put("beside")))).expect("taken");
        let mut said = keeper.publish.subscribe();
        let running = std::thread::spawn(move || keeper.run());
        while said.borrow_and_update().committed != Some(1) {
            std::thread::yield_now();
        }
        drop((hold, orders));
        running.join().expect("ended").expect("closed");
        let (_, contents, opened) = Store::open_memory(&disk, Options::default()).expect("opened");
        assert_eq!((contents.tree(Tree::Outbox).count(), opened), (1, crosstalk_storage::Opened::Clean));
    }

    #[test]
    fn a_checkpoint_waits_for_a_pause_until_it_presses() {
        let (mut keeper, orders) = overfull(&MemoryDisk::new(), 1);
        let later = |wait| {
            let orders = orders.clone();
            std::thread::spawn(move || {
                std::thread::sleep(wait);
                let _ = orders.send(Order::Commit((1, put("late"))));
            })
        };
        keeper.maintain();
        let sender = later(PAUSE / 10);
        assert!(matches!(keeper.rest(), Ok(Some(_))) && matches!(keeper.checkpoint, Writing::Idle));
        sender.join().expect("sent");
        assert!(matches!(keeper.rest(), Ok(None)) && matches!(keeper.checkpoint, Writing::Begun { .. }));
        let (mut keeper, _orders) = overfull(&MemoryDisk::new(), 3);
        keeper.maintain();
        assert!(matches!(keeper.checkpoint, Writing::Begun { .. }));
    }

    #[test]
    fn a_checkpoint_that_fails_is_tried_again_later() {
        let disk = MemoryDisk::new();
        let (mut keeper, _orders) = overfull(&disk, 3);
        disk.refuse_replacing(true);
        keeper.begin_checkpoint();
        keeper.end_checkpoint();
        assert!(matches!(keeper.checkpoint, Writing::Failed(again) if again > Instant::now()));
        keeper.maintain();
        assert!(matches!(keeper.checkpoint, Writing::Failed(_)), "not at once");
        disk.refuse_replacing(false);
        keeper.checkpoint = Writing::Failed(Instant::now());
        keeper.maintain();
        keeper.end_checkpoint();
        assert!(matches!(keeper.checkpoint, Writing::Idle) && !keeper.store.is_checkpoint_due());
    }

    #[tokio::test]
    async fn what_can_never_be_written_ends_the_thread() {
        let mut thread = StoreThread::start(Store::memory().expect("opened")).expect("started");
        let mut state = thread.state();
        thread.commit(0, put("good"));
        thread.commit(1, put(vec![0; crosstalk_storage::MAX_KEY + 1]));
        let ended = async { while state.changed().await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("in time");
        assert_eq!(state.borrow().trouble, None);
        assert!(matches!(thread.close(), Err(CloseError::Unsaved(_))));
    }

    #[tokio::test]
    async fn what_was_gathered_while_the_disk_was_full_is_written_however_much_it_is() {
        let disk = MemoryDisk::new();
        let (store, _, _) = Store::open_memory(&disk, Options::default()).expect("opened");
        let mut thread = StoreThread::start(store).expect("started");
        let mut state = thread.state();
        disk.set_full(true);
        for batch in 0..400u64 {
            let mut writes = WriteSet::new();
            writes.put(Tree::Inbox, batch.to_be_bytes(), vec![0; 100 << 10]);
            thread.commit(batch, writes);
        }
        until(&mut state, |state| state.trouble.is_some()).await;
        disk.set_full(false);
        until(&mut state, |state| state.trouble.is_none()).await;
        thread.push();
        thread.close().expect("closed");
        let (_, contents, _) = Store::open_memory(&disk, Options::default()).expect("opened");
        assert_eq!(contents.tree(Tree::Inbox).count(), 400);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_said_not_confirmed_and_blocks_nobody() {
        let disk = MemoryDisk::new();
        let (store, _, _) = Store::open_memory(&disk, Options::default()).expect("opened");
        let mut thread = StoreThread::start(store).expect("started");
        let mut state = thread.state();
        thread.commit(0, put("good"));
        until(&mut state, |state| state.committed == Some(0)).await;
        disk.set_full(true);
        thread.commit(1, put("no room"));
        let said = until(&mut state, |state| state.trouble.is_some()).await;
        assert_eq!(said.committed, Some(0));
        for batch in 2..1_000 {
            thread.commit(batch, put(batch.to_string()));
        }
        assert!(thread.held.is_some(), "the queue is bounded");
        assert_eq!(state.borrow().committed, Some(0));
        assert!(matches!(thread.close(), Err(CloseError::Unsaved(_))));
    }
}
