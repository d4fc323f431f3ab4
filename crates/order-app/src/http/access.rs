//! Who may do what: bearer tokens (RFC 6750) and their scopes.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{Error, ResponseError};
use futures::future::{Either, Ready, ready};
use tokio::time::sleep;

use super::problem::{Problem, ProblemKind};
use crate::tokens::{Scope, Tokens, TokensError};

/// The tokens in force, shared by all threads that answer.
pub(crate) struct Access {
    path: PathBuf,
    tokens: RwLock<Arc<Tokens>>,
    /// The file as it was when its tokens came into force.
    read: Vec<u8>,
}

impl Access {
    /// By the tokens of this file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is wrong.
    pub(crate) fn new(path: PathBuf) -> Result<Self, TokensError> {
        let read = Tokens::read(&path)?;
        let tokens = Tokens::parse(&read)?;
        Ok(Access {
            path,
            tokens: RwLock::new(Arc::new(tokens)),
            read,
        })
    }

    /// Looks at the file again and again, and puts in force what has changed. What is broken changes nothing.
    ///
    /// The file is compared by what stands in it: a mounted secret is a link that is set anew, and stamps of time are coarse.
    pub(crate) async fn follow(self: Arc<Self>, every: Duration) {
        let mut seen = self.read.clone();
        let mut told = None;
        loop {
            sleep(every).await;
            let path = self.path.clone();
            let read = tokio::task::spawn_blocking(move || Tokens::read(&path)).await;
            let Ok(read) = read else { return };
            let changed = match read {
                Ok(read) if read == seen => Ok(None),
                Ok(read) => Tokens::parse(&read).map(|tokens| Some((read, tokens))),
                Err(error) => Err(error),
            };
            match changed {
                Ok(None) => told = None,
                Ok(Some((read, tokens))) => {
                    tracing::info!(tokens = tokens.count(), "the access tokens have changed");
                    *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
                    (seen, told) = (read, None);
                }
                Err(error) => {
                    let error = error.to_string();
                    if told.as_ref() != Some(&error) {
                        tracing::error!(
                            path = %self.path.display(),
                            error,
                            "the file of access tokens is of no use; those read before stay in force"
                        );
                    }
                    told = Some(error);
                }
            }
        }
    }

    /// Why a request that needs this scope is not let through.
    fn refusal(&self, headers: &HeaderMap, needed: Scope) -> Option<Problem> {
        let Some(token) = bearer_token(headers) else {
            return Some(
                Problem::new(ProblemKind::Unauthorized).with_header(header::WWW_AUTHENTICATE, CHALLENGE),
            );
        };
        let tokens = Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner));
        match tokens.scopes_of(token) {
            Some(scopes) if scopes.have(needed) => None,
            Some(_) => Some(insufficient_scope(needed)),
            None => Some(
                Problem::new(ProblemKind::Unauthorized)
                    .with_detail("this token is not known here")
                    .with_header(header::WWW_AUTHENTICATE, INVALID_TOKEN),
            ),
        }
    }
}

const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Bearer realm="order-tracker""#);
const INVALID_TOKEN: HeaderValue =
    HeaderValue::from_static(r#"Bearer realm="order-tracker", error="invalid_token""#);

fn insufficient_scope(needed: Scope) -> Problem {
    let challenge = match needed {
        Scope::Read => r#"Bearer realm="order-tracker", error="insufficient_scope", scope="read""#,
        Scope::Publish => r#"Bearer realm="order-tracker", error="insufficient_scope", scope="publish""#,
        Scope::Operate => r#"Bearer realm="order-tracker", error="insufficient_scope", scope="operate""#,
    };
    Problem::new(ProblemKind::Forbidden)
        .with_detail(format!("this needs a token with the scope `{}`", needed.name()))
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

/// The token that a request shows; `None` if it shows none, or anything else.
fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let mut given = headers.get_all(header::AUTHORIZATION);
    let value = given.next()?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    (given.next().is_none() && scheme.eq_ignore_ascii_case(b"Bearer ")).then_some(token.trim_ascii())
}

/// What a request to the public listener needs. What is not known to be open needs a scope, and what is not known only to read
/// needs that to publish: a route that someone forgot here is closed.
pub(crate) fn needed_by_the_public(method: &Method, path: &str) -> Option<Scope> {
    // The descriptions of the API, and what problems lead to.
    let describes = |name: &str| !name.contains('/') && name.ends_with(".json");
    let is_open = path == "/docs"
        || path.starts_with("/docs/")
        || path.starts_with("/problems/")
        || path.strip_prefix("/api/").is_some_and(describes);
    let only_reads =
        matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || path == "/api/v1/lookup";
    match (is_open, only_reads) {
        (true, _) => None,
        (false, true) => Some(Scope::Read),
        (false, false) => Some(Scope::Publish),
    }
}

/// What a request to the operators' listener needs. Whether it is alive and ready is asked by machines without a token.
pub(crate) fn needed_by_operators(_: &Method, path: &str) -> Option<Scope> {
    match path {
        "/livez" | "/readyz" => None,
        _ => Some(Scope::Operate),
    }
}

/// Lets a request through if its token allows it. Where there are no tokens everyone may do everything.
pub(crate) fn check_access<S>(
    access: Option<&Access>,
    needed: fn(&Method, &str) -> Option<Scope>,
    request: ServiceRequest,
    service: &S,
) -> Either<S::Future, Ready<Result<ServiceResponse, Error>>>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
{
    let refusal = access.and_then(|access| {
        // The path as routes will match it, whatever of it is written with percent signs.
        let needed = needed(request.method(), request.match_info().unprocessed())?;
        access.refusal(request.headers(), needed)
    });
    match refusal {
        None => Either::Left(service.call(request)),
        Some(problem) => Either::Right(ready(Ok(request.into_response(problem.error_response())))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_thought_of_is_closed() {
        for (method, path, needed) in [
            (Method::GET, "/api/v1/orders/a", Some(Scope::Read)),
            (Method::HEAD, "/api/v1/orders/a", Some(Scope::Read)),
            (Method::GET, "/api/v1/orders", Some(Scope::Read)),
            (Method::POST, "/api/v1/lookup", Some(Scope::Read)),
            (Method::POST, "/api/v1/orders", Some(Scope::Publish)),
            (Method::POST, "/api/v1/orders/", Some(Scope::Publish)),
            (Method::DELETE, "/api/v1/orders/a", Some(Scope::Publish)),
            (Method::GET, "/api/v1/orders/a.json", Some(Scope::Read)),
            (Method::GET, "/api/v2/x.json", Some(Scope::Read)),
            (Method::GET, "/", Some(Scope::Read)),
            (Method::GET, "/docsx", Some(Scope::Read)),
            (Method::GET, "/api/openapi.json", None),
            (Method::GET, "/docs/", None),
            (Method::GET, "/problems/bad-uid", None),
        ] {
            assert_eq!(needed_by_the_public(&method, path), needed, "{method} {path}");
        }
        assert_eq!(needed_by_operators(&Method::GET, "/livez"), None);
        assert_eq!(
            needed_by_operators(&Method::GET, "/metrics"),
            Some(Scope::Operate)
        );
    }

    #[test]
    fn a_token_is_shown_once_and_as_bearer() {
        let shown = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer_token(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(shown(&["Bearer ot_a"]), Some(b"ot_a".to_vec()));
        assert_eq!(shown(&["bearer  ot_a "]), Some(b"ot_a".to_vec()));
        for none in [
            &[][..],
            &["Basic b3Q="],
            &["ot_a"],
            &["Bearer"],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(shown(none), None, "{none:?}");
        }
    }
}
