use order_domain::testing::memory::MemoryBus;
use order_domain::{Backlog, BusState, Subscription};
use xtask::orders::{Mix, OrderGenerator};

use super::*;

const RUN: &str = "run";

fn messages(count: usize) -> mpsc::Receiver<Message> {
    let (made, messages) = mpsc::channel(count.max(1));
    for message in OrderGenerator::new(1, Mix::default()).take(count) {
        made.try_send(message).unwrap();
    }
    messages
}

fn plan(rate: Option<f64>) -> Plan {
    Plan {
        run: RUN.to_owned(),
        rate,
    }
}

/// Publishes so many messages; gives what became of them, by id.
async fn run(
    bus: &MemoryBus,
    count: usize,
    rate: Option<f64>,
    wish: watch::Receiver<Wish>,
) -> (HashMap<String, Fate>, Times) {
    let mut fates = HashMap::new();
    let settle = |id: &str, _, fate| {
        assert!(
            fates.insert(id.to_owned(), fate).is_none(),
            "{id} is settled twice"
        );
        Ok(())
    };
    let standing = Standing::default();
    let times = publish(bus, messages(count), &plan(rate), wish, &standing, settle)
        .await
        .unwrap();
    assert_eq!(standing.published.load(Ordering::Relaxed), fates.len() as u64);
    (fates, times)
}

fn acknowledged(fates: &HashMap<String, Fate>) -> usize {
    fates
        .values()
        .filter(|fate| matches!(fate, Fate::Acknowledged(_)))
        .count()
}

fn no_wish() -> watch::Receiver<Wish> {
    watch::channel(Wish::GoOn).1
}

#[tokio::test(start_paused = true)]
async fn every_message_is_published_under_an_id_of_its_own() {
    let bus = MemoryBus::new(Duration::from_secs(1));
    let (fates, _) = run(&bus, 3_000, None, no_wish()).await;
    assert_eq!(
        (fates.len(), acknowledged(&fates), bus.waiting()),
        (3_000, 3_000, 3_000)
    );
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_over_the_whole_run() {
    let bus = MemoryBus::new(Duration::from_secs(1));
    let (fates, times) = run(&bus, 1_001, Some(250.0), no_wish()).await;
    assert_eq!(acknowledged(&fates), 1_001);
    // The paused clock moves only while everyone waits: 1,000 steps of 4 ms, whatever the work between takes.
    assert!(
        (4.0..4.01).contains(&times.elapsed.as_secs_f64()),
        "{:?}",
        times.elapsed
    );
}

#[tokio::test(start_paused = true)]
async fn messages_are_tried_again_until_the_broker_is_back() {
    let bus = MemoryBus::new(Duration::from_secs(1));
    bus.set_reachable(false);
    let (fates, times) = tokio::join!(run(&bus, 50, None, no_wish()), async {
        sleep(Duration::from_secs(60)).await;
        bus.set_reachable(true);
    })
    .0;
    assert_eq!((acknowledged(&fates), bus.waiting()), (50, 50));
    assert!(times.elapsed >= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_told_while_it_lasts() {
    let bus = MemoryBus::new(Duration::from_secs(1));
    let standing = Standing::default();
    bus.set_reachable(false);
    let (plan, settle) = (plan(None), |_: &str, _, _| Ok(()));
    tokio::join!(
        async {
            publish(&bus, messages(5), &plan, no_wish(), &standing, settle)
                .await
                .unwrap()
        },
        async {
            sleep(Duration::from_secs(1)).await;
            assert!(standing.trouble().is_some());
            bus.set_reachable(true);
        }
    );
    assert_eq!(standing.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_ended_says_what_it_does_not_know() {
    let bus = MemoryBus::new(Duration::from_secs(1));
    let (wish, wished) = watch::channel(Wish::GoOn);
    let ((fates, times), ()) = tokio::join!(run(&bus, 1_000, Some(100.0), wished), async {
        sleep(Duration::from_millis(2_005)).await;
        bus.set_reachable(false);
        sleep(Duration::from_millis(1_000)).await;
        wish.send_replace(Wish::End);
    });
    // Sent after 0, 10, 20, … 2,000 ms, then 100 that found no broker, and none after the end.
    assert_eq!((fates.len(), acknowledged(&fates)), (301, 201));
    let unknown = fates.values().filter(|fate| matches!(fate, Fate::Unknown));
    assert_eq!(unknown.count(), 100);
    assert!(
        times.elapsed < Duration::from_secs(3),
        "the last acknowledgement ends the time that counts"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_holds_nobody_up() {
    let bus = MemoryBus::new(Duration::from_secs(1));
    bus.set_max_payload(1_400);
    let (fates, _) = run(&bus, 500, None, no_wish()).await;
    let refused = fates
        .values()
        .filter(|fate| matches!(fate, Fate::Refused(_)))
        .count();
    assert!(refused > 0 && acknowledged(&fates) > 0);
    assert_eq!(refused + acknowledged(&fates), 500);
}

/// A broker on which something else holds our subject.
struct Foreign;

#[async_trait::async_trait]
impl OrderBus for Foreign {
    async fn publish(&self, _message: OutgoingMessage) -> Result<PublishAck, BusError> {
        Err(BusError::Unsuitable(
            "another stream stores the subject".to_owned(),
        ))
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError> {
        Err(BusError::Unsuitable(
            "another stream stores the subject".to_owned(),
        ))
    }

    fn state(&self) -> BusState {
        BusState::Connected
    }

    async fn backlog(&self) -> Result<Backlog, BusError> {
        Ok(Backlog::default())
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_cannot_serve_ends_the_run_with_every_message_accounted_for() {
    let standing = Standing::default();
    let mut unknown = 0;
    let settle = |_: &str, _, fate| {
        unknown += u64::from(matches!(fate, Fate::Unknown));
        Ok(())
    };
    let end = publish(&Foreign, messages(500), &plan(None), no_wish(), &standing, settle).await;
    assert!(end.unwrap_err().to_string().contains("another stream"));
    assert_eq!(unknown, standing.published.load(Ordering::Relaxed));
}
