//! What every bus must do.

order_domain::order_bus_contract!(crate::support::TestBus);
