//! Responses: JSON, and errors as `{"error":"…"}`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A request that is not fulfilled, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    why: &'static str,
}

/// Why a response refuses its request, for the log. An extension of the response.
#[derive(Clone, Copy)]
pub(super) struct Why(pub(super) &'static str);

#[derive(Serialize)]
struct Failure {
    error: &'static str,
}

impl Refusal {
    pub(super) const fn bad_request(why: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    pub(super) const fn unauthorized() -> Self {
        let why = "send the token of --admin-token-file as Authorization: Bearer";
        Self::new(StatusCode::UNAUTHORIZED, why)
    }

    pub(super) const fn no_server() -> Self {
        Self::new(StatusCode::NOT_FOUND, "nobody holds that server-id")
    }

    pub(super) const fn no_phone() -> Self {
        let why = "the server-id has no phone with that conn-id";
        Self::new(StatusCode::NOT_FOUND, why)
    }

    pub(super) const fn method() -> Self {
        let why = "the path does not have that method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, why)
    }

    pub(super) const fn failed() -> Self {
        let why = "the relay could not answer";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    }

    const fn new(status: StatusCode, why: &'static str) -> Self {
        Self { status, why }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json(&Failure { error: self.why });
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Why(self.why));
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = header::HeaderValue::from_static("Bearer");
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

pub(super) fn json(body: &impl Serialize) -> Response {
    let body = serde_json::to_string(body).expect("strings and numbers are always JSON");
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}
