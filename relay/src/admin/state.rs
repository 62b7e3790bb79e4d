//! What every request needs.

use std::sync::Arc;

use super::token::Token;
use crate::connection::relay::Relay;

pub(super) struct Admin {
    pub(super) relay: Arc<Relay>,
    pub(super) token: Arc<Token>,
}
