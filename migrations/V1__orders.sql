-- Everything here is created in the first schema of the search path: the schema is a setting, so no name is qualified.
--
-- Every key is led by order_uid, so that the four tables can be hash-distributed by it. Names are compared byte by byte
-- (COLLATE "C"): faster, and the order in which the service sorts them as well.
--
-- There are no foreign keys. One writer fills all four tables in one transaction, and writes the parts of exactly the
-- orders it changed; a key would check that again with one query a row, and cost two fifths of the rate of ingestion.

-- One row an order: what it is, and which version of it this is.
CREATE TABLE orders (
    order_uid          text COLLATE "C" PRIMARY KEY,
    track_number       text        NOT NULL,
    entry              text        NOT NULL,
    locale             text        NOT NULL,
    internal_signature text        NOT NULL,
    customer_id        text        NOT NULL,
    delivery_service   text        NOT NULL,
    shardkey           text        NOT NULL,
    sm_id              integer     NOT NULL,
    date_created       timestamptz NOT NULL,
    oof_shard          text        NOT NULL,
    -- The revision: when the broker stored the message, and under which sequence. A newer one replaces the order.
    published_at       timestamptz NOT NULL,
    sequence           bigint      NOT NULL,
    -- The length of the canonical JSON, so that a bulk read can be cut by bytes before it reads them.
    document_bytes     integer     NOT NULL,
    stored_at          timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 90); -- A new version finds room beside the old one, and leaves the indexes as they are.

-- The newest orders first, for the warm-up of a replica's cache.
CREATE INDEX orders_by_date_created ON orders (date_created DESC, order_uid DESC);

-- Where an order goes: one row an order.
CREATE TABLE delivery (
    order_uid text COLLATE "C" PRIMARY KEY,
    name      text NOT NULL,
    phone     text NOT NULL,
    zip       text NOT NULL,
    city      text NOT NULL,
    address   text NOT NULL,
    region    text NOT NULL,
    email     text NOT NULL
) WITH (fillfactor = 90);

-- How it is paid: one row an order. Amounts have at most 18 digits, at most 4 of them after the point.
CREATE TABLE payment (
    order_uid     text COLLATE "C" PRIMARY KEY,
    transaction   text           NOT NULL,
    request_id    text           NOT NULL,
    currency      text           NOT NULL,
    provider      text           NOT NULL,
    amount        numeric(22, 4) NOT NULL,
    payment_dt    bigint         NOT NULL, -- Unix seconds, as in the message.
    bank          text           NOT NULL,
    delivery_cost numeric(22, 4) NOT NULL,
    goods_total   numeric(22, 4) NOT NULL,
    custom_fee    numeric(22, 4) NOT NULL
) WITH (fillfactor = 90);

-- What is in it. Keyed by the place in the order: an article may stand in it twice, and in any number of orders.
CREATE TABLE items (
    order_uid    text COLLATE "C",
    position     integer,
    chrt_id      bigint         NOT NULL,
    track_number text           NOT NULL,
    price        numeric(22, 4) NOT NULL,
    rid          text           NOT NULL,
    name         text           NOT NULL,
    sale         integer        NOT NULL,
    size         text           NOT NULL,
    total_price  numeric(22, 4) NOT NULL,
    nm_id        bigint         NOT NULL,
    brand        text           NOT NULL,
    status       integer        NOT NULL,
    PRIMARY KEY (order_uid, position)
);

-- Messages that can never become orders, whole. The key is the revision, so that a message delivered again is known.
CREATE TABLE dead_letters (
    published_at timestamptz,
    sequence     bigint,
    subject      text        NOT NULL,
    -- [[name, value], …]. Not jsonb, which would refuse a NUL in a value, and with it the whole batch.
    headers      json        NOT NULL,
    payload      bytea       NOT NULL,
    reason       text        NOT NULL,
    order_uid    text COLLATE "C",
    state        text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'replayed', 'discarded')),
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (published_at, sequence)
);

-- The newest waiting ones, for the list that someone has to look through; most of the others are of no interest.
CREATE INDEX dead_letters_waiting ON dead_letters (published_at DESC, sequence DESC) WHERE state = 'waiting';

-- One row a committed batch: the orders that it changed. A position is drawn while the writer holds the log's lock until
-- its commit is visible, so positions become visible in their order and a reader of `position > last` skips nothing. An
-- identity that hands out numbers in advance (CACHE) would break that.
CREATE TABLE commit_log (
    position     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Tells this row from another at the same position after the database was restored.
    mark         bigint        NOT NULL DEFAULT hashtextextended(gen_random_uuid()::text, 0),
    committed_at timestamptz   NOT NULL DEFAULT clock_timestamp(),
    -- How many orders changed: the length of the three arrays, which a reader can add up without reading them.
    changes      integer       NOT NULL,
    order_uids   text[]        NOT NULL,
    published_at timestamptz[] NOT NULL,
    sequences    bigint[]      NOT NULL
) WITH (
    -- Rows only come at one end and go at the other. Vacuum early and often, so that the look at the log, which every
    -- replica takes several times a second, does not wade through what was pruned.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.05
);

-- The place before the first entry.
INSERT INTO commit_log (changes, order_uids, published_at, sequences) VALUES (0, '{}', '{}', '{}');
