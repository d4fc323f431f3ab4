//! How long requests take, by method, route and status.
//!
//! On the path of every request, so it looks nothing up and allocates nothing where the resource brings its [`Route`].

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::Instant;

use actix_web::Error;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use metrics::{Gauge, Histogram, Label, gauge, histogram};

use crate::instruments::{HTTP_ACTIVE, HTTP_DURATION};

/// The methods that are told apart; a caller may invent others.
static METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::OPTIONS,
    Method::PATCH,
    Method::CONNECT,
    Method::TRACE,
];

/// A resource's route, with the histograms of the requests to it. Given to a resource that is asked for often, as its `app_data`; the
/// others are looked up.
pub(crate) struct Route {
    pattern: &'static str,
    durations: RefCell<Vec<(Kind, Histogram)>>,
}

/// What the requests of one histogram have in common beside the route.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    /// Its place in [`METHODS`].
    method: usize,
    status: StatusCode,
}

impl Kind {
    fn duration(self, route: Option<String>) -> Histogram {
        let mut labels = vec![
            Label::from_static_parts("http_request_method", method_name(self.method)),
            Label::new("http_response_status_code", self.status.as_str().to_owned()),
        ];
        labels.extend(route.map(|route| Label::new("http_route", route)));
        histogram!(HTTP_DURATION, labels)
    }
}

impl Route {
    /// The route of the resource at `pattern`.
    pub(crate) fn new(pattern: &'static str) -> Self {
        Route {
            pattern,
            durations: RefCell::default(),
        }
    }

    fn record(&self, kind: Kind, seconds: f64) {
        let mut durations = self.durations.borrow_mut();
        let known = durations.iter().position(|(it, _)| *it == kind);
        let index = known.unwrap_or_else(|| {
            durations.push((kind, kind.duration(Some(self.pattern.to_owned()))));
            durations.len() - 1
        });
        durations[index].1.record(seconds);
    }
}

/// Measures a request, from when its head was read until its answer's is ready.
pub(crate) fn with_timing<S, B>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<B>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    let began = Instant::now();
    let method = METHODS.iter().position(|it| it == request.method());
    let method = method.unwrap_or(METHODS.len());
    let active = Active::begin(method);
    let answer = service.call(request);
    async move {
        let answer = answer.await;
        drop(active);
        let seconds = began.elapsed().as_secs_f64();
        match &answer {
            Ok(response) => {
                let status = response.status();
                let kind = Kind { method, status };
                match response.request().app_data::<Route>() {
                    Some(route) => route.record(kind, seconds),
                    None => kind.duration(response.request().match_pattern()).record(seconds),
                }
            }
            Err(error) => {
                let status = error.as_response_error().status_code();
                Kind { method, status }.duration(None).record(seconds);
            }
        }
        answer
    }
}

/// A request that is being answered, until it is dropped: its caller may hang up before there is an answer.
struct Active(&'static Gauge);

impl Active {
    fn begin(method: usize) -> Self {
        static ACTIVE: LazyLock<Vec<Gauge>> = LazyLock::new(|| {
            (0..=METHODS.len())
                .map(|method| gauge!(HTTP_ACTIVE, "http_request_method" => method_name(method)))
                .collect()
        });
        let active = &ACTIVE[method];
        active.increment(1);
        Active(active)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

fn method_name(index: usize) -> &'static str {
    METHODS.get(index).map_or("_OTHER", Method::as_str)
}
