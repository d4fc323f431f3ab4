//! `/livez`, `/readyz`, `/metrics` and `/version`, for operators: never on the public listener.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, web};
use order_domain::{Coherence, Health, Standing};
use serde_json::json;

use super::problem::only;
use crate::build_info::{COMMIT, PROFILE, VERSION};
use crate::scrape::Scrape;

/// What the routes tell about.
pub(crate) struct ManagementState {
    pub(crate) health: Arc<Health>,
    pub(crate) coherence: Arc<Coherence>,
    /// `None` where nothing is collected.
    pub(crate) scrape: Option<Scrape>,
}

/// Registers the routes. The state is expected as `web::Data<ManagementState>`.
pub(crate) fn configure_management(app: &mut web::ServiceConfig) {
    fn get<F, A>(path: &str, handler: F) -> actix_web::Resource
    where
        F: actix_web::Handler<A, Output = HttpResponse>,
        A: actix_web::FromRequest + 'static,
    {
        web::resource(path)
            .route(web::get().to(handler))
            .default_service(web::route().to(only(&[Method::GET])))
    }
    app.service(get("/livez", livez))
        .service(get("/readyz", readyz))
        .service(get("/metrics", metrics))
        .service(get("/version", version));
}

/// 200 for as long as the process can answer at all.
async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

/// 200 if requests should come, `"degraded"` with what is wrong if the database or the broker is lost; 503 before the first
/// contact with both, and during shutdown.
async fn readyz(state: web::Data<ManagementState>) -> HttpResponse {
    let report = state.health.report();
    let (status, text) = match report.standing {
        Standing::Ready => (StatusCode::OK, "ready"),
        Standing::Degraded => (StatusCode::OK, "degraded"),
        Standing::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Standing::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting down"),
    };
    let size = state.coherence.cache().size();
    HttpResponse::build(status).json(json!({
        "status": text,
        "troubles": report.troubles,
        "cache": {
            "proven": state.coherence.is_proven(),
            "orders": size.orders,
            "bytes": size.bytes,
        },
    }))
}

/// The metrics in Prometheus' text form.
async fn metrics(state: web::Data<ManagementState>) -> HttpResponse {
    match &state.scrape {
        Some(scrape) => HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .body(scrape.text()),
        None => HttpResponse::NotFound().finish(),
    }
}

/// Which program this is.
async fn version() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "name": "order-tracker",
        "version": VERSION,
        "profile": PROFILE,
        "commit": COMMIT,
    }))
}
