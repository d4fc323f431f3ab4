//! The outermost layer of both listeners: a name for each request, to find it in the log, and an answer whatever happens.

use std::cell::RefCell;
use std::future::poll_fn;
use std::mem::swap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{Error, ResponseError};
use tokio::time::sleep;

use super::connection::ConnectionState;
use super::problem::{Problem, ProblemKind};
use super::timing::Measured;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a caller, in bytes.
const LONGEST: usize = 128;

thread_local! {
    /// The id of the request that is being worked on. The log asks for it; nothing is paid for it until something is logged.
    static CURRENT: RefCell<Option<RequestId>> = const { RefCell::new(None) };
}

/// Calls `tell` with the id of the request that this thread works on, if it works on one.
pub(crate) fn with_current_request_id<T>(tell: impl FnOnce(Option<&str>) -> T) -> T {
    CURRENT.with_borrow(|id| tell(id.as_ref().and_then(RequestId::as_str)))
}

/// The id of a request: the caller's own where it is fit to be logged, else a new one.
#[derive(Clone)]
enum RequestId {
    Given(HeaderValue),
    New([u8; 16]),
}

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        match headers.get(REQUEST_ID) {
            Some(given) if is_fit(given) => RequestId::Given(given.clone()),
            _ => {
                let number = fastrand::u64(..);
                RequestId::New(std::array::from_fn(|place| {
                    DIGITS[(number >> (4 * place)) as usize % 16]
                }))
            }
        }
    }

    fn as_str(&self) -> Option<&str> {
        match self {
            RequestId::Given(id) => id.to_str().ok(),
            RequestId::New(id) => std::str::from_utf8(id).ok(),
        }
    }

    fn into_header(self) -> HeaderValue {
        match self {
            RequestId::Given(id) => id,
            RequestId::New(id) => HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("0")),
        }
    }
}

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestPatience {
    /// Until it is logged as slow.
    pub(crate) slow: Duration,
    /// Until it is given up, whatever it waits for.
    pub(crate) longest: Duration,
}

/// Puts the request's id on the response: the caller's own where it is fit to be logged, else a new one. What is logged meanwhile
/// carries it. An error is answered as a [`Problem`], whoever made it; a panic as a fault of ours; and what does not end as too much.
pub(crate) fn with_request_id<S, B>(
    patience: RequestPatience,
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<EitherBody<B>>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let measured = Measured::begin(request.method());
    let in_hand = request
        .conn_data::<Rc<ConnectionState>>()
        .map(ConnectionState::begin);
    let id = RequestId::of(request.headers());
    // In a box: a connection keeps room for this future as long as it lasts, and each that holds another one doubles it.
    let mut answer = Box::pin(service.call(request));
    async move {
        let _in_hand = in_hand;
        let mut current = Some(id.clone());
        let mut timer = None;
        let answer = poll_fn(|context| {
            with_id(&mut current, || match poll(answer.as_mut(), context) {
                // Only who waits needs a timer.
                Poll::Pending => {
                    let timer = timer.get_or_insert_with(|| Box::pin(sleep(patience.longest)));
                    timer.as_mut().poll(context).map(|()| Err(too_long()))
                }
                ready => ready,
            })
        })
        .await;
        // From here on nothing waits any more.
        with_id(&mut current, || {
            let problem = match answer {
                Ok(Ok(response)) => {
                    let took = measured.end(Some(response.request()), response.status());
                    log(&response, took, patience.slow);
                    let mut response = with_problem(response);
                    response.headers_mut().insert(REQUEST_ID, id.into_header());
                    return Ok(response);
                }
                // The request is gone with what failed, so that its answer can only be an error.
                Ok(Err(error)) => Problem::from(&error),
                Err(kind) => Problem::new(kind),
            };
            measured.end(None, problem.status_code());
            Err(problem.with_header(REQUEST_ID, id.into_header()).into())
        })
    }
}

/// Faults of ours, and what took long. 503 is told once by whoever noticed that something is away, not again by every request.
fn log<B>(response: &ServiceResponse<B>, took: Duration, slow: Duration) {
    let status = response.status();
    let is_fault = status == StatusCode::INTERNAL_SERVER_ERROR;
    if !is_fault && took < slow {
        return;
    }
    let (method, path) = (response.request().method(), response.request().path());
    let (status, seconds) = (status.as_u16(), took.as_secs_f64());
    if is_fault {
        let error = response.response().error().map(ToString::to_string);
        tracing::error!(%method, path, status, seconds, error, "a request failed");
    } else {
        tracing::info!(%method, path, status, seconds, "a request was slow");
    }
}

/// Polls a future that may panic.
fn poll<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<Result<F::Output, ProblemKind>> {
    match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => {
            tracing::error!("a request panicked");
            Poll::Ready(Err(ProblemKind::Internal))
        }
    }
}

fn too_long() -> ProblemKind {
    tracing::error!("a request took too long, and is given up");
    ProblemKind::Overloaded
}

/// Lends the id to this thread. `work` must not panic.
fn with_id<T>(id: &mut Option<RequestId>, work: impl FnOnce() -> T) -> T {
    CURRENT.with_borrow_mut(|current| swap(current, id));
    let done = work();
    CURRENT.with_borrow_mut(|current| swap(current, id));
    done
}

/// Rewrites an error that is not ours: actix-web answers some with its own words, and some with none.
fn with_problem<B>(response: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response.map_into_left_body();
    }
    let problem = match response.response().error() {
        Some(error) if error.as_error::<Problem>().is_none() => Problem::from(error),
        None if !response.headers().contains_key(header::CONTENT_TYPE) => Problem::from_status(status),
        _ => return response.map_into_left_body(),
    };
    let answer = problem.error_response();
    response.into_response(answer).map_into_right_body()
}

fn is_fit(given: &HeaderValue) -> bool {
    (1..=LONGEST).contains(&given.len()) && given.as_bytes().iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use actix_web::{App, HttpResponse, web};

    use super::*;

    const PATIENCE: RequestPatience = RequestPatience {
        slow: Duration::MAX,
        longest: Duration::from_millis(100),
    };

    async fn panics() -> HttpResponse {
        assert!(with_current_request_id(|id| id == Some("mine")));
        panic!("on purpose");
    }

    #[actix_web::test]
    async fn a_panic_is_a_fault_of_ours_that_tells_nothing_and_keeps_the_id() {
        let app = App::new()
            .wrap_fn(|request, service| with_request_id(PATIENCE, request, service))
            .route("/", web::get().to(panics));
        let app = init_service(app).await;
        let request = TestRequest::get().insert_header((REQUEST_ID, "mine"));
        let error = app
            .call(request.to_request())
            .await
            .expect_err("what fails has no request any more");
        let answer = error.error_response();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            answer.headers().get(REQUEST_ID),
            Some(&HeaderValue::from_static("mine"))
        );
        let body = actix_web::body::to_bytes(answer.into_body())
            .await
            .expect("a body");
        assert!(!String::from_utf8_lossy(&body).contains("on purpose"));
        assert!(with_current_request_id(|id| id.is_none()), "the id stays behind");
    }

    #[actix_web::test]
    async fn what_waits_for_ever_is_given_up() {
        let app = App::new()
            .wrap_fn(|request, service| with_request_id(PATIENCE, request, service))
            .route("/", web::get().to(std::future::pending::<HttpResponse>));
        let app = init_service(app).await;
        let answer = app.call(TestRequest::get().to_request()).await;
        let error = answer.expect_err("what is given up has no request any more");
        assert_eq!(error.error_response().status(), ProblemKind::Overloaded.status());
    }

    #[actix_web::test]
    async fn errors_that_are_not_ours_become_problems_that_say_no_more_than_they_must() {
        async fn fails() -> Result<HttpResponse, Error> {
            Err(actix_web::error::ErrorInternalServerError("postgres://secret"))
        }
        async fn says_nothing() -> HttpResponse {
            HttpResponse::NotFound().finish()
        }
        let app = App::new()
            .wrap_fn(|request, service| with_request_id(PATIENCE, request, service))
            .route("/fails", web::get().to(fails))
            .route("/nothing", web::get().to(says_nothing));
        let app = init_service(app).await;
        for (path, kind) in [
            ("/fails", ProblemKind::Internal),
            ("/nothing", ProblemKind::NotFound),
            ("/elsewhere", ProblemKind::NotFound),
        ] {
            let answer = call_service(&app, TestRequest::get().uri(path).to_request()).await;
            assert_eq!(answer.status(), kind.status(), "{path}");
            let problem: serde_json::Value = read_body_json(answer).await;
            assert_eq!(problem["type"], kind.uri(), "{path}");
            assert!(!problem.to_string().contains("secret"), "{problem}");
        }
    }
}
