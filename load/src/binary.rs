//! A binary: answers, counts or sends frames, depending on the direction.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::envelope;
use crate::frame;
use crate::link::Role;
use crate::options::Direction;
use crate::traffic::{Orders, Traffic};

/// With this many answers waiting, the binary stops reading, as a real one would.
const ANSWERS: usize = 256;

pub(crate) struct Binary {
    traffic: Arc<Traffic>,
    /// Unused in directions where the phones send.
    orders: Option<Orders>,
    answers: VecDeque<Utf8Bytes>,
    /// The conn-ids of the phones that have introduced themselves.
    phones: BTreeMap<u32, String>,
}

impl Binary {
    pub(crate) fn new(traffic: Arc<Traffic>, orders: Option<Orders>) -> Self {
        Self {
            traffic,
            orders,
            answers: VecDeque::new(),
            phones: BTreeMap::new(),
        }
    }

    fn frame(&mut self, conn_id: &str, frame: &str, message: &Utf8Bytes) {
        let Some(stamp) = frame::read(frame) else {
            return self.traffic.tally.error("binary received a foreign frame");
        };
        let is_hello = stamp.due == 0;
        if is_hello {
            self.phones.insert(stamp.phone, conn_id.to_owned());
        }
        if is_hello || self.traffic.direction == Direction::Echo {
            // The relay accepts the envelope that it makes of a frame, so the answer is the message itself.
            self.answers.push_back(message.clone());
        } else {
            self.traffic.arrived(stamp);
        }
    }

    fn gone(&mut self, conn_id: &str) {
        let (slow, tally) = (self.traffic.slow, &self.traffic.tally);
        self.phones.retain(|phone, known| {
            let is_gone = known == conn_id;
            if is_gone && *phone < slow {
                tally.slow_phone_dropped();
            }
            !is_gone
        });
    }
}

impl Role for Binary {
    fn wants_more(&self) -> bool {
        self.answers.len() < ANSWERS
    }

    fn received(&mut self, message: Utf8Bytes) {
        if let Some(envelope) = envelope::open(&message) {
            self.frame(envelope.conn_id, envelope.frame, &message);
        } else if let Some(notice) = envelope::notice(&message) {
            self.gone(&notice.conn_id);
        } else {
            self.traffic
                .tally
                .error("binary received a message that is not an envelope");
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Message> {
        if let Some(answer) = self.answers.pop_front() {
            return Poll::Ready(Message::Text(answer));
        }
        let Some(orders) = &mut self.orders else {
            return Poll::Pending;
        };
        loop {
            let Some(stamp) = ready!(orders.poll_recv(context)) else {
                return Poll::Pending;
            };
            // A phone that is gone gets no more frames.
            if let Some(conn_id) = self.phones.get(&stamp.phone) {
                let message = envelope::wrap(conn_id, &self.traffic.frames, stamp);
                return Poll::Ready(Message::text(message));
            }
        }
    }
}
