-- What the lists of orders are answered from, newest first. Together with orders_by_date_created, which serves the list without a
-- filter, one index for each text by which orders are searched: a list by several of them takes the one that leaves least,
-- and checks the others on what it finds. An index for each combination would cost ingestion more than it could save.
--
-- Texts are compared byte by byte (COLLATE "C"), as the keys are: faster, and no library that orders texts can change
-- under an index. A query says so too, or the index does not serve it.
--
-- Building them holds up ingestion on a large table, not reading. Where that matters, build them before the upgrade, outside
-- a transaction, with CREATE INDEX CONCURRENTLY: those that are there are left as they are.

-- GET /api/v1/orders?track_number=…, alone or with others: in the order of the list, so that a page reads only itself,
-- however many orders share the text.
CREATE INDEX IF NOT EXISTS orders_by_track_number
    ON orders (track_number COLLATE "C", date_created DESC, order_uid DESC);

-- GET /api/v1/orders?customer_id=…, alone or with others: the same.
CREATE INDEX IF NOT EXISTS orders_by_customer_id
    ON orders (customer_id COLLATE "C", date_created DESC, order_uid DESC);

-- GET /api/v1/orders?transaction=…, alone or with others. The date stands in another table; a transaction belongs to one
-- order or to a few, which are looked up there and sorted.
CREATE INDEX IF NOT EXISTS payment_by_transaction
    ON payment (transaction COLLATE "C");
