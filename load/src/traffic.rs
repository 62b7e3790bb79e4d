//! State shared by all connections. Orders name the next frame to send and the time since when it has been
//! due.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::frame::{Frames, Stamp};
use crate::options::{Direction, Options};
use crate::tally::Tally;
use crate::window::Window;

pub(crate) type Orders = UnboundedReceiver<Stamp>;

pub(crate) struct Traffic {
    pub(crate) direction: Direction,
    pub(crate) frames: Frames,
    pub(crate) window: Window,
    pub(crate) tally: Tally,
    /// Phones with a lower number don't read.
    pub(crate) slow: u32,
    /// Whether each arriving frame orders the next one.
    renews: bool,
    /// The sender of each phone's frames: the phone itself or its binary.
    senders: Vec<UnboundedSender<Stamp>>,
}

impl Traffic {
    /// Also returns the orders of each sender: of the binaries if these send, otherwise of the phones.
    pub(crate) fn new(options: &Options) -> (Self, Vec<Orders>) {
        let phones = options.all_phones();
        let senders = match options.direction {
            Direction::ToPhone => u32::from(options.servers.get()),
            Direction::Echo | Direction::ToBinary => phones,
        };
        let (inboxes, orders): (Vec<_>, Vec<_>) = (0..senders).map(|_| unbounded_channel()).unzip();
        let traffic = Self {
            direction: options.direction,
            frames: Frames::of(options.frame as usize),
            window: Window::new(),
            tally: Tally::new(),
            slow: options.slow,
            renews: options.rate.is_none(),
            // Phone p belongs to server-id p % servers, so consecutive frames go to different binaries.
            senders: inboxes
                .iter()
                .cycle()
                .take(phones as usize)
                .cloned()
                .collect(),
        };
        (traffic, orders)
    }

    pub(crate) fn order(&self, stamp: Stamp) {
        // A missing sender has already been counted as an error.
        let sent = self.senders[stamp.phone as usize].send(stamp);
        if sent.is_ok() && stamp.phone >= self.slow {
            self.tally.ordered(stamp.phone);
        }
    }

    /// Counts a frame that has reached its destination.
    pub(crate) fn arrived(&self, stamp: Stamp) {
        let now = self.window.now();
        self.tally
            .arrived(stamp.phone, stamp.due, now, &self.window);
        if self.renews && now < self.window.to() {
            let phone = stamp.phone;
            self.order(Stamp { due: now, phone });
        }
    }
}
