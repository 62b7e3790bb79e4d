use std::collections::VecDeque;
use std::mem;

use event_listener::{Event as Signal, EventListener};

use crate::state::change::Event;
use crate::store::lock::Lock;
use crate::store::switch_point::switch_point;

/// A listener that is more changes behind than this has lagged.
const MAX_EVENTS: usize = if cfg!(switchboard_shuttle) { 4 } else { 8192 };

/// The same for the names in those changes, in bytes. Names come from the network and may be long.
const MAX_NAMES: usize = 1 << 20;

/// Passes each change to all who listen.
///
/// While anybody listens, a change is made and passed on under one lock. So all listeners get all changes in
/// the order in which they took effect. The lock is not held while anything of a user's is dropped or woken.
pub(crate) struct Feed {
    inboxes: Lock<Inboxes>,
    arrived: Signal,
}

#[derive(Default)]
struct Inboxes {
    opened: u64,
    open: Vec<Inbox>,
}

struct Inbox {
    number: u64,
    events: VecDeque<Event>,
    /// The bytes of the names in `events`.
    names: usize,
    lagged: bool,
}

/// The listener has missed changes.
pub(crate) struct Missed;

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            inboxes: Lock::new(Inboxes::default()),
            arrived: Signal::new(),
        }
    }

    /// Opens an inbox and returns its number.
    pub(crate) fn open(&self) -> u64 {
        switch_point();
        let mut inboxes = self.inboxes.lock();
        inboxes.opened += 1;
        let number = inboxes.opened;
        inboxes.open.push(Inbox {
            number,
            events: VecDeque::new(),
            names: 0,
            lagged: false,
        });
        number
    }

    pub(crate) fn close(&self, number: u64) {
        switch_point();
        let mut inboxes = self.inboxes.lock();
        inboxes.open.retain(|inbox| inbox.number != number);
    }

    /// Makes a change and passes it on, if it is one, before any other change is made. Then call
    /// [`notify`](Self::notify): waking runs code of their executors, which must find the change complete.
    pub(crate) fn publish<T>(&self, change: impl FnOnce() -> (T, Option<Event>)) -> T {
        switch_point();
        let mut inboxes = self.inboxes.lock();
        let (result, event) = change();
        if let Some(event) = event {
            inboxes.open.iter_mut().for_each(|inbox| inbox.add(&event));
        }
        result
    }

    /// Wakes all who wait for a change that was passed on.
    pub(crate) fn notify(&self) {
        self.arrived.notify(usize::MAX);
    }

    /// Tells all listeners that a change was made but not passed on.
    pub(crate) fn miss(&self) {
        switch_point();
        let mut inboxes = self.inboxes.lock();
        inboxes.open.iter_mut().for_each(Inbox::lag);
    }

    /// Takes everything out of an inbox. After `Missed`, the inbox begins anew: whatever the caller reads
    /// from the registry from now on is as new as the changes that it gets next, or newer.
    pub(crate) fn take(&self, number: u64) -> Result<VecDeque<Event>, Missed> {
        switch_point();
        let mut inboxes = self.inboxes.lock();
        let inbox = inboxes.open.iter_mut().find(|inbox| inbox.number == number);
        let inbox = inbox.expect("only its owner closes an inbox");
        if mem::take(&mut inbox.lagged) {
            return Err(Missed);
        }
        inbox.names = 0;
        Ok(mem::take(&mut inbox.events))
    }

    /// Listens for the next change. Call this before [`take`](Self::take), so that no change falls between.
    pub(crate) fn listen(&self) -> EventListener {
        switch_point();
        self.arrived.listen()
    }
}

impl Inbox {
    fn add(&mut self, event: &Event) {
        if self.lagged {
            return;
        }
        self.names += event.names();
        if self.events.len() == MAX_EVENTS || self.names > MAX_NAMES {
            return self.lag();
        }
        self.events.push_back(event.clone());
    }

    fn lag(&mut self) {
        self.events = VecDeque::new();
        self.names = 0;
        self.lagged = true;
    }
}
