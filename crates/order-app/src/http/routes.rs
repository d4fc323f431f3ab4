//! Every route of the public listener.

use actix_web::web::ServiceConfig;

use super::documents::configure_documents;
use super::lists::configure_order_lists;
use super::lookup::configure_lookup;
use super::orders::configure_orders;
use super::problem_pages::configure_problem_pages;
use super::publishing::configure_publishing;

/// Registers all of them. What each expects as `web::Data` is told where it is.
pub(crate) fn configure_public(app: &mut ServiceConfig) {
    configure_orders(app);
    configure_publishing(app);
    configure_order_lists(app);
    configure_lookup(app);
    configure_documents(app);
    configure_problem_pages(app);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_web::test::{TestRequest, call_and_read_body, init_service};
    use actix_web::{App, HttpRequest, web};

    use super::*;
    use crate::http::contract::Contract;

    /// Where Swagger UI is, for people.
    const PAGES: [&str; 2] = ["/docs", "/docs/{file:.*}"];

    #[actix_web::test]
    async fn every_route_is_in_the_contract_and_every_path_of_the_contract_is_a_route() {
        // actix-web tells what is registered in no other way.
        let told = async |request: HttpRequest| format!("{:?}", request.resource_map());
        let app = App::new()
            .configure(configure_public)
            .default_service(web::to(told));
        let app = init_service(app).await;
        let told = call_and_read_body(&app, TestRequest::get().uri("/").to_request()).await;
        let told = String::from_utf8(told.to_vec()).expect("UTF-8");
        let registered: BTreeSet<String> = told
            .split("patterns: Single(\"")
            .skip(1)
            .filter_map(|rest| rest.split_once('"'))
            .map(|(pattern, _)| pattern.to_owned())
            .filter(|pattern| !pattern.is_empty() && !PAGES.contains(&pattern.as_str()))
            .collect();

        let contract = Contract::new(&crate::config::Settings::default());
        let openapi: serde_json::Value = serde_json::from_slice(&contract.documents()[0].json).expect("JSON");
        let described: BTreeSet<String> = openapi["paths"]
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        assert_eq!(registered, described);
    }
}
