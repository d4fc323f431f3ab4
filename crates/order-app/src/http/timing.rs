//! How long requests take, by method, route and status.
//!
//! On the path of every request, so it looks nothing up and allocates nothing where the resource brings its [`Route`].

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
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

/// A request that is being measured, from when its head was read until its answer's is ready.
pub(crate) struct Measured {
    began: Instant,
    method: usize,
    active: Active,
}

impl Measured {
    pub(crate) fn begin(method: &Method) -> Self {
        let method = METHODS.iter().position(|it| it == method);
        let method = method.unwrap_or(METHODS.len());
        Measured {
            began: Instant::now(),
            method,
            active: Active::begin(method),
        }
    }

    /// Answers how long it took. Of a request that failed nothing is left but its status.
    pub(crate) fn end(self, request: Option<&HttpRequest>, status: StatusCode) -> Duration {
        let Measured {
            began,
            method,
            active,
        } = self;
        drop(active);
        let took = began.elapsed();
        let kind = Kind { method, status };
        match request.and_then(|request| request.app_data::<Route>()) {
            Some(route) => route.record(kind, took.as_secs_f64()),
            None => kind
                .duration(request.and_then(HttpRequest::match_pattern))
                .record(took.as_secs_f64()),
        }
        took
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
