//! The outermost layer of both listeners but for the clock: a name for each request, to find it in the log, and an answer whatever happens.

use std::cell::RefCell;
use std::mem::swap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{Error, ResponseError};

use super::connection::ConnectionState;
use super::problem::{Problem, ProblemKind};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a caller, in bytes.
const LONGEST: usize = 128;

thread_local! {
    /// The id of the request that is being worked on. The log asks for it; nothing is paid for it until something is logged.
    static CURRENT: RefCell<Option<HeaderValue>> = const { RefCell::new(None) };
}

/// Calls `tell` with the id of the request that this thread works on, if it works on one.
pub(crate) fn with_current_request_id<T>(tell: impl FnOnce(Option<&str>) -> T) -> T {
    CURRENT.with_borrow(|id| tell(id.as_ref().and_then(|id| id.to_str().ok())))
}

/// Puts the request's id on the response: the caller's own where it is fit to be logged, else a new one. What is logged meanwhile
/// carries it. An error is answered as a [`Problem`], whoever made it; a panic as a fault of ours.
pub(crate) fn with_request_id<S, B>(
    slow: Duration,
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<EitherBody<B>>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let began = Instant::now();
    let in_hand = request
        .conn_data::<Rc<ConnectionState>>()
        .map(ConnectionState::begin);
    let id = match request.headers().get(REQUEST_ID) {
        Some(given) if is_fit(given) => given.clone(),
        _ => new_id(),
    };
    let answer = service.call(request);
    async move {
        let _in_hand = in_hand;
        let mut current = Some(id.clone());
        let answer = under_id(&mut current, answer).await;
        // From here on nothing waits any more.
        with_id(&mut current, || match answer {
            Some(Ok(response)) => {
                log(&response, began.elapsed(), slow);
                let mut response = with_problem(response);
                response.headers_mut().insert(REQUEST_ID, id);
                Ok(response)
            }
            // The request is gone with what failed, so that its answer can only be an error.
            Some(Err(error)) => Err(Problem::from(&error).with_header(REQUEST_ID, id).into()),
            None => {
                tracing::error!("a request panicked");
                let problem = Problem::new(ProblemKind::Internal).with_header(REQUEST_ID, id);
                Err(problem.into())
            }
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

/// Runs a future under an id; `None` if it panics.
async fn under_id<F: Future>(id: &mut Option<HeaderValue>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        with_id(id, || {
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
                Ok(poll) => poll.map(Some),
                Err(_) => Poll::Ready(None),
            }
        })
    })
    .await
}

/// Lends the id to this thread. `work` must not panic.
fn with_id<T>(id: &mut Option<HeaderValue>, work: impl FnOnce() -> T) -> T {
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

fn new_id() -> HeaderValue {
    let id = format!("{:016x}", fastrand::u64(..));
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use actix_web::{App, HttpResponse, web};

    use super::*;

    async fn panics() -> HttpResponse {
        assert!(with_current_request_id(|id| id == Some("mine")));
        panic!("on purpose");
    }

    #[actix_web::test]
    async fn a_panic_is_a_fault_of_ours_that_tells_nothing_and_keeps_the_id() {
        let app = App::new()
            .wrap_fn(|request, service| with_request_id(Duration::MAX, request, service))
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
    async fn errors_that_are_not_ours_become_problems_that_say_no_more_than_they_must() {
        async fn fails() -> Result<HttpResponse, Error> {
            Err(actix_web::error::ErrorInternalServerError("postgres://secret"))
        }
        async fn says_nothing() -> HttpResponse {
            HttpResponse::NotFound().finish()
        }
        let app = App::new()
            .wrap_fn(|request, service| with_request_id(Duration::MAX, request, service))
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
