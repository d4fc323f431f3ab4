//! `/api/*.json`, the contract for programs, and `/docs`, the same for people: Swagger UI, from this binary alone.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{self, EntityTag, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use sha2::{Digest, Sha256};
use utoipa_swagger_ui::Config;

use super::contract::{Contract, Document, NAMES};
use super::orders::is_known;
use super::problem::{Problem, ProblemKind, only};

/// What a page of Swagger UI may load and ask for: nothing that is not from here.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The documents, ready to be sent.
pub(crate) struct Documents {
    served: Vec<Served>,
    swagger_ui: Arc<Config<'static>>,
}

struct Served {
    name: &'static str,
    media_type: &'static str,
    json: Bytes,
    tag: EntityTag,
}

impl Documents {
    pub(crate) fn new(contract: &Contract) -> Self {
        let served = contract.documents().iter().map(|document| {
            let Document {
                name,
                media_type,
                json,
            } = document.clone();
            let hash: [u8; 32] = Sha256::digest(&json).into();
            let hash = hash[..8].iter().map(|byte| format!("{byte:02x}"));
            Served {
                name,
                media_type,
                json,
                // Weak, since the same document may be sent compressed.
                tag: EntityTag::new_weak(hash.collect()),
            }
        });
        // Swagger UI would have the document judged by a server of its makers'.
        let swagger_ui = Config::from("../api/openapi.json")
            .validator_url("none")
            .use_base_layout()
            .deep_linking(true);
        Documents {
            served: served.collect(),
            swagger_ui: Arc::new(swagger_ui),
        }
    }
}

/// Registers the routes. The documents are expected as `web::Data<Documents>`.
pub(crate) fn configure_documents(app: &mut web::ServiceConfig) {
    fn get<F, A>(path: &str, handler: F) -> actix_web::Resource
    where
        F: actix_web::Handler<A, Output = Result<HttpResponse, Problem>> + Copy,
        A: actix_web::FromRequest + 'static,
    {
        web::resource(path)
            .route(web::get().to(handler))
            .route(web::head().to(handler))
            .default_service(web::route().to(only(&[Method::GET, Method::HEAD])))
    }
    for name in NAMES {
        app.service(get(&format!("/api/{name}"), document));
    }
    app.service(get("/docs", to_swagger_ui))
        .service(get("/docs/{file:.*}", swagger_ui));
}

/// One of the documents.
async fn document(request: HttpRequest, documents: web::Data<Documents>) -> Result<HttpResponse, Problem> {
    let name = request.path().strip_prefix("/api/");
    let found = documents
        .served
        .iter()
        .find(|document| Some(document.name) == name);
    let found = found.ok_or_else(|| Problem::new(ProblemKind::NotFound))?;
    let is_known = is_known(&request, || found.tag.clone());
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, found.tag.clone()))
        .insert_header((header::CACHE_CONTROL, "no-cache"));
    if is_known {
        return Ok(response.finish());
    }
    Ok(response.content_type(found.media_type).body(found.json.clone()))
}

/// The page's own links are relative: it has to end in a slash.
async fn to_swagger_ui() -> Result<HttpResponse, Problem> {
    let mut response = HttpResponse::PermanentRedirect();
    Ok(response.insert_header((header::LOCATION, "docs/")).finish())
}

/// A file of Swagger UI.
async fn swagger_ui(request: HttpRequest, documents: web::Data<Documents>) -> Result<HttpResponse, Problem> {
    let name = request.match_info().get("file").unwrap_or_default();
    let file = utoipa_swagger_ui::serve(name, Arc::clone(&documents.swagger_ui));
    let file = file.map_err(|_| Problem::new(ProblemKind::Internal))?;
    let file = file.ok_or_else(|| Problem::new(ProblemKind::NotFound))?;
    let body = match file.bytes {
        Cow::Borrowed(embedded) => Bytes::from_static(embedded),
        Cow::Owned(made) => Bytes::from(made),
    };
    Ok(HttpResponse::Ok()
        .content_type(file.content_type)
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(body))
}
