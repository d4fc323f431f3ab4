//! The composition: which adapter stands behind which port, and in which order all of it starts and ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, web};
use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use order_domain::{
    Backoff, Coherence, Health, Ingestor, LogFollower, OrderBus, OrderPublisher, OrderService, warm_up,
};
use order_moka::MokaOrderCache;
use order_nats::NatsOrderBus;
use order_postgres::PostgresStore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backlog::BacklogWatch;
use crate::config::Settings;
use crate::http::{
    Access, BodyLimits, Contract, Documents, Listener, ListenerOptions, ManagementState, RequestPatience,
    ServerCertificate, check_access, configure_management, configure_public, listen, needed_by_operators,
    needed_by_the_public, not_found, order_data, with_compression, with_cors, with_orders, with_request_id,
};
use crate::readers::Readers;
use crate::scrape::Scrape;

/// The whole service, built but not yet running.
pub struct Application {
    settings: Settings,
    readers: Readers,
    store: PostgresStore,
    bus: Arc<NatsOrderBus>,
    coherence: Arc<Coherence>,
    health: Arc<Health>,
    access: Option<Arc<Access>>,
    certificate: Option<Arc<ServerCertificate>>,
    /// Only where someone can ask for it.
    backlog: Option<Arc<BacklogWatch>>,
    public: Listener,
    management: Listener,
}

impl Application {
    /// Composes the service and binds both listeners. Needs neither the database nor the broker to be there. To be called on the
    /// runtime that is to store orders and follow the log, which must outlive the listeners' own threads.
    ///
    /// # Errors
    ///
    /// Threads cannot be started, a listener cannot be bound, the certificate cannot be used, or a setting of an adapter is of no use.
    pub async fn build(settings: Settings, metrics: Option<PrometheusHandle>) -> anyhow::Result<Self> {
        settings.check_exposure()?;
        let access = settings.http.tokens_file.clone().map(|path| {
            let cannot_use = format!("ORDERS__HTTP__TOKENS_FILE: {}", path.display());
            Access::new(path).map(Arc::new).context(cannot_use)
        });
        let access = access.transpose()?;
        let readers = Readers::start(settings.runtime.readers()?)?;
        let store = PostgresStore::connect_with_readers(&settings.postgres, readers.handle())?;
        let bus = Arc::new(NatsOrderBus::connect(settings.nats.clone()).await?);
        let cache = Arc::new(MokaOrderCache::new(settings.cache.max_bytes));
        let coherence = Arc::new(Coherence::new(cache, settings.cache.lease));
        let health = Arc::new(Health::new(Arc::clone(&bus) as Arc<dyn OrderBus>));
        let service = web::Data::new(OrderService::new(
            store.orders(),
            Arc::clone(&coherence),
            Arc::clone(&health),
            settings.read.clone(),
            readers.handle().clone(),
        ));
        let publisher = web::Data::new(OrderPublisher::new(
            Arc::clone(&bus) as Arc<dyn OrderBus>,
            settings.publish.clone(),
        ));
        let body_limits = web::Data::new(BodyLimits::new(&settings.http));
        let documents = web::Data::new(Documents::new(&Contract::new(&settings)));
        let scrape = metrics.map(|collected| Scrape {
            collected,
            health: Arc::clone(&health),
            coherence: Arc::clone(&coherence),
            store: store.clone(),
            backlog: Arc::new(BacklogWatch::new(Arc::clone(&bus) as Arc<dyn OrderBus>)),
        });
        let backlog = scrape.as_ref().map(|scrape| Arc::clone(&scrape.backlog));
        let state = web::Data::new(ManagementState {
            health: Arc::clone(&health),
            coherence: Arc::clone(&coherence),
            scrape,
        });

        let workers = settings.http.workers()?;
        let certificate = match (&settings.http.tls_certificate, &settings.http.tls_key) {
            (Some(certificate), Some(key)) => Some(Arc::new(ServerCertificate::read(certificate, key)?)),
            _ => None,
        };
        let options = |workers| ListenerOptions::new(&settings.http, workers, settings.shutdown.deadline);
        let cannot_listen = |address| move || format!("failed to listen on {address}");
        let (for_public, for_operators) = (access.clone(), access.clone());
        let patience = RequestPatience {
            slow: settings.http.slow_request,
            longest: settings.http.request_timeout,
        };
        let public = ListenerOptions {
            tls: certificate
                .as_ref()
                .map(ServerCertificate::acceptor)
                .transpose()?,
            ..options(workers)
        };
        let origins = Arc::new(settings.http.cors_origins.clone());
        let public = listen(settings.http.address, public, move || {
            let (access, origins) = (for_public.clone(), Arc::clone(&origins));
            let orders = order_data();
            App::new()
                .app_data(service.clone())
                .app_data(publisher.clone())
                .app_data(body_limits.clone())
                .app_data(documents.clone())
                .wrap_fn(move |request, service| with_orders(&orders, request, service))
                .wrap_fn(move |request, service| {
                    check_access(access.as_deref(), needed_by_the_public, request, service)
                })
                .wrap_fn(with_compression)
                .wrap_fn(move |request, service| with_cors(&origins, request, service))
                .wrap_fn(move |request, service| with_request_id(patience, request, service))
                .configure(configure_public)
                .default_service(web::to(not_found))
        })
        .with_context(cannot_listen(settings.http.address))?;
        let management = listen(settings.management.address, options(1), move || {
            let access = for_operators.clone();
            App::new()
                .app_data(state.clone())
                .wrap_fn(move |request, service| {
                    check_access(access.as_deref(), needed_by_operators, request, service)
                })
                .wrap_fn(move |request, service| with_request_id(patience, request, service))
                .configure(configure_management)
                .default_service(web::to(not_found))
        })
        .with_context(cannot_listen(settings.management.address))?;
        Ok(Application {
            certificate,
            public,
            management,
            settings,
            readers,
            store,
            bus,
            coherence,
            health,
            access,
            backlog,
        })
    }

    /// Where the public listener listens.
    pub fn address(&self) -> SocketAddr {
        self.public.address
    }

    /// Where the operators' listener listens.
    pub fn management_address(&self) -> SocketAddr {
        self.management.address
    }

    /// Runs until told to stop, then ends in order: unready, drain, stop taking, hand back, finish the batch in hand.
    ///
    /// # Errors
    ///
    /// A listener broke down, or ending took longer than its deadline.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let (address, management_address) = (self.address(), self.management_address());
        tracing::info!(%address, %management_address, "listening");
        let Application {
            settings,
            readers: _readers,
            store,
            bus,
            coherence,
            health,
            access,
            certificate,
            backlog,
            public,
            management,
        } = self;
        let listeners = [public.server.handle(), management.server.handle()];
        let (stop_taking, stop_following) = (CancellationToken::new(), CancellationToken::new());

        let tasks = TaskTracker::new();
        let taking = TaskTracker::new();
        let ingestor = Ingestor::new(
            bus,
            store.orders(),
            Arc::clone(&coherence),
            Arc::clone(&health),
            settings.ingest.clone(),
        );
        let follower = LogFollower::new(
            store.commit_log(),
            Arc::clone(&coherence),
            Arc::clone(&health),
            settings.follower.clone(),
        );
        let warm = warm_up(
            store.orders(),
            Arc::clone(&coherence),
            settings.warm_up.clone(),
            stop_following.clone(),
        );
        tasks.spawn(warm);
        if let Some(access) = access {
            let follow = access.follow(settings.http.tokens_poll);
            tasks.spawn(stop_following.clone().run_until_cancelled_owned(follow));
        }
        if let Some(certificate) = certificate {
            let follow = certificate.follow(settings.http.tls_reload_every);
            tasks.spawn(stop_following.clone().run_until_cancelled_owned(follow));
        }
        if let Some(backlog) = backlog {
            tasks.spawn(stop_following.clone().run_until_cancelled_owned(backlog.run()));
        }
        {
            let (stop_taking, stop_following) = (stop_taking.clone(), stop_following.clone());
            let (tasks, taking, health) = (tasks.clone(), taking.clone(), Arc::clone(&health));
            let postgres = settings.startup.migrate.then(|| settings.postgres.clone());
            // Nothing may touch the tables before they are there; the listeners answer meanwhile.
            tasks.clone().spawn(async move {
                let migrated = stop_taking.run_until_cancelled(async {
                    if let Some(postgres) = postgres {
                        migrate_until_done(&postgres, &health).await;
                    }
                });
                if migrated.await.is_some() {
                    tasks.spawn(follower.run(stop_following));
                    taking.spawn(ingestor.run(stop_taking));
                }
            });
        }

        let servers = async { tokio::try_join!(public.server, management.server) };
        tokio::pin!(servers);
        tokio::select! {
            () = stop.cancelled() => {}
            ended = &mut servers => {
                ended.context("a listener broke down")?;
                anyhow::bail!("a listener ended by itself");
            }
        }

        let end = async {
            health.begin_shutdown();
            sleep(settings.shutdown.drain_delay).await;
            stop_taking.cancel();
            taking.close();
            taking.wait().await;
            // What nobody takes any more is not worth waiting for.
            coherence.end_waiting();
            let ends = listeners
                .iter()
                .map(|listener: &ServerHandle| listener.stop(true));
            let (ended, _) = tokio::join!(&mut servers, futures::future::join_all(ends));
            // The cache stays proven for as long as requests are answered from it.
            stop_following.cancel();
            tasks.close();
            tasks.wait().await;
            ended.context("a listener broke down")
        };
        timeout(settings.shutdown.deadline, end)
            .await
            .context("ending took longer than its deadline")??;
        tracing::info!("ended");
        Ok(())
    }
}

/// Tries until the schema is as this binary needs it.
async fn migrate_until_done(settings: &order_postgres::PostgresSettings, health: &Health) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match order_postgres::migrate(settings).await {
            Ok(applied) if applied.is_empty() => return,
            Ok(applied) => {
                for migration in applied {
                    tracing::info!(version = migration.version, name = migration.name, "migrated");
                }
                return;
            }
            Err(error) => health.database_lost(&error),
        }
        sleep(backoff.step()).await;
    }
}
