//! A binary: answers, counts or sends, as the direction asks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::envelope;
use crate::frame;
use crate::link::Role;
use crate::options::Direction;
use crate::traffic::{Orders, Traffic};

/// With more answers waiting it stops reading, as a real binary would.
const ANSWERS: usize = 256;

pub(crate) struct Binary {
    traffic: Arc<Traffic>,
    /// Nobody writes to them where the phones send.
    orders: Option<Orders>,
    answers: VecDeque<Utf8Bytes>,
    /// The conn-ids of the phones that have made themselves known.
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
            return self
                .traffic
                .tally
                .error("binary got a frame that is not ours");
        };
        let is_hello = stamp.due == 0;
        if is_hello {
            self.phones.insert(stamp.phone, conn_id.to_owned());
        }
        if is_hello || self.traffic.direction == Direction::Echo {
            // What the relay makes of a frame, it takes for one: the answer is the message.
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
            self.traffic.tally.error("binary got no envelope");
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
            // A phone that has gone gets no more frames.
            if let Some(conn_id) = self.phones.get(&stamp.phone) {
                let message = envelope::wrap(conn_id, &self.traffic.frames, stamp);
                return Poll::Ready(Message::text(message));
            }
        }
    }
}
