//! What every cache must do.

order_domain::order_cache_contract!(order_moka::MokaOrderCache::new);
