//! Orders: which frame is to be sent, and since when it is due. What all connections share.

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
    /// Whether a frame that arrives makes room for the next one.
    renews: bool,
    /// For each phone, the one who sends its frames: itself, or its binary.
    senders: Vec<UnboundedSender<Stamp>>,
}

impl Traffic {
    /// And the orders of each sender: of the binaries where they send, else of the phones.
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
            // Phone p belongs to server-id p % servers, so that frames due one after the other go to different binaries.
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
        // A sender that is not there is an error that is counted already.
        let sent = self.senders[stamp.phone as usize].send(stamp);
        if sent.is_ok() && stamp.phone >= self.slow {
            self.tally.ordered(stamp.phone);
        }
    }

    /// A frame has come to its end.
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
