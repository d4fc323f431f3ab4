use order_domain::Revision;

use super::super::history::{Place, Sighting, Stored};
use super::*;

const BOUND: Duration = Duration::from_secs(2);

fn uid(text: &str) -> OrderUid {
    OrderUid::new(text).unwrap()
}

fn revision(sequence: u64) -> Revision {
    Revision {
        published_at: 1_000 * sequence as i64,
        sequence,
    }
}

fn content(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn place(sequence: u64) -> Option<Place> {
    Some(Place { epoch: 0, sequence })
}

fn order(name: &str, version: &str, sequence: u64) -> Published {
    Published {
        uid: Some(uid(name)),
        content: content(version),
        items: 2,
        place: place(sequence),
    }
}

fn stored(version: &str, sequence: u64) -> Stored {
    Stored {
        revision: revision(sequence),
        content: Ok(content(version)),
    }
}

fn seen(seconds: u64, sequence: u64) -> Sighting {
    Sighting {
        at: Duration::from_secs(seconds),
        revision: revision(sequence),
    }
}

fn answer(millis: u64, name: &str, reply: Reply) -> Answer {
    Answer {
        replica: 1,
        begun: Duration::from_millis(millis),
        uid: uid(name),
        reply,
    }
}

fn served(version: &str, sequence: u64) -> Reply {
    Reply::Order {
        revision: revision(sequence),
        content: content(version),
        aged: false,
        proof_required: false,
    }
}

/// Two orders, one of them in two versions, and one bad message; all of it as it must be.
fn sound() -> (History, Tables) {
    let letter = Published {
        uid: None,
        content: content("bad"),
        items: 0,
        place: place(4),
    };
    let history = History {
        published: vec![
            order("a", "a1", 1),
            order("b", "b1", 2),
            order("a", "a2", 3),
            letter,
        ],
        sightings: [
            (uid("a"), vec![seen(10, 1), seen(20, 3)]),
            (uid("b"), vec![seen(10, 2)]),
        ]
        .into(),
        answers: vec![
            answer(9_000, "a", Reply::Absent),
            answer(11_000, "a", Reply::Absent),
            answer(12_001, "a", served("a1", 1)),
            answer(21_999, "a", served("a1", 1)),
            answer(22_001, "a", served("a2", 3)),
            answer(22_001, "b", Reply::Unavailable),
        ],
    };
    let tables = Tables {
        orders: [(uid("a"), stored("a2", 3)), (uid("b"), stored("b1", 2))].into(),
        rows: [2, 2, 2, 4],
        orphans: Vec::new(),
        dead_letters: vec![(4, content("bad"))],
    };
    (history, tables)
}

fn kinds(history: &History, tables: &Tables) -> Vec<ViolationKind> {
    let found = check(history, tables, BOUND);
    found.into_iter().map(|violation| violation.kind).collect()
}

/// What is found once this was done to a sound history.
fn after(spoil: impl FnOnce(&mut History, &mut Tables)) -> Vec<ViolationKind> {
    let (mut history, mut tables) = sound();
    spoil(&mut history, &mut tables);
    kinds(&history, &tables)
}

#[test]
fn what_is_as_it_must_be_is_not_blamed() {
    assert_eq!(after(|_, _| ()), []);
}

#[test]
fn a_lost_order_is_found() {
    let found = after(|_, tables| {
        tables.orders.remove(&uid("b"));
        tables.rows = [1, 1, 1, 2];
    });
    // Beside it that none of the four tables has the rows it must have.
    assert_eq!(found[0], ViolationKind::Lost);
    assert_eq!(found[1..], [ViolationKind::Wrong; 4]);
}

#[test]
fn a_lost_version_is_found() {
    let found = after(|_, tables| {
        tables.orders.insert(uid("a"), stored("a1", 1));
    });
    assert_eq!(found, [ViolationKind::Lost]);
}

#[test]
fn a_version_of_a_later_epoch_is_the_newer_one_though_its_sequence_is_lower() {
    let set_back = |history: &mut History| {
        history.published[2].place = Some(Place {
            epoch: 1,
            sequence: 1,
        });
        history.published[0].place = place(30);
        history.sightings.clear();
        history.answers.clear();
    };
    let found = after(|history, tables| {
        set_back(history);
        tables.orders.insert(uid("a"), stored("a2", 1));
    });
    assert_eq!(found, []);
    let found = after(|history, tables| {
        set_back(history);
        tables.orders.insert(uid("a"), stored("a1", 30));
    });
    assert_eq!(found, [ViolationKind::Lost]);
}

#[test]
fn what_was_not_acknowledged_may_be_there_or_not() {
    let unsure = |version: &str| {
        after(|history, tables| {
            history.published.push(Published {
                place: None,
                ..order("a", "a3", 0)
            });
            tables.orders.insert(uid("a"), stored(version, 3));
        })
    };
    assert_eq!(unsure("a3"), []);
    assert_eq!(unsure("a2"), []);
    assert_eq!(unsure("a1"), [ViolationKind::Lost]);
}

#[test]
fn a_stale_answer_is_found() {
    let found = after(|history, _| history.answers.push(answer(22_001, "a", served("a1", 1))));
    assert_eq!(found, [ViolationKind::Stale]);
    let found = after(|history, _| history.answers.push(answer(12_001, "b", Reply::Absent)));
    assert_eq!(found, [ViolationKind::Stale], "404 is older than any version");
}

#[test]
fn an_answer_with_its_age_may_be_old_unless_proof_was_asked_for() {
    let aged = |proof_required| {
        after(|history, _| {
            let reply = Reply::Order {
                revision: revision(1),
                content: content("a1"),
                aged: true,
                proof_required,
            };
            history.answers.push(answer(60_000, "a", reply));
        })
    };
    assert_eq!(aged(false), []);
    assert_eq!(aged(true), [ViolationKind::Wrong]);
}

#[test]
fn a_torn_order_is_found_in_an_answer() {
    for torn in [served("half a1, half a2", 3), served("a1", 3)] {
        let found = after(|history, _| history.answers.push(answer(21_000, "a", torn)));
        assert_eq!(found, [ViolationKind::Torn]);
    }
}

#[test]
fn a_torn_order_is_found_in_the_tables() {
    for torn in [
        stored("half a1, half a2", 3),
        stored("a2", 1),
        Stored {
            content: Err("no payment".to_owned()),
            ..stored("", 3)
        },
    ] {
        let found = after(|_, tables| {
            tables.orders.insert(uid("a"), torn);
        });
        assert_eq!(found, [ViolationKind::Torn]);
    }
}

#[test]
fn rows_without_an_order_and_wrong_counts_are_found() {
    let found = after(|_, tables| tables.orphans.push("items c".to_owned()));
    assert_eq!(found, [ViolationKind::Wrong]);
    let found = after(|_, tables| tables.rows[3] = 5);
    assert_eq!(found, [ViolationKind::Wrong]);
    let found = after(|_, tables| {
        tables.orders.insert(uid("c"), stored("c1", 9));
    });
    assert_eq!(found, [ViolationKind::Wrong]);
}

#[test]
fn dead_letters_are_counted_exactly() {
    let found = after(|_, tables| tables.dead_letters.clear());
    assert_eq!(found, [ViolationKind::Lost]);
    let found = after(|_, tables| tables.dead_letters.push((4, content("bad"))));
    assert_eq!(found, [ViolationKind::Wrong], "twice");
    let found = after(|_, tables| tables.dead_letters.push((2, content("b1"))));
    assert_eq!(found, [ViolationKind::Wrong], "a good order");
}

#[test]
fn a_version_that_gave_way_to_an_older_one_is_found() {
    let found = after(|history, _| {
        history.sightings.insert(uid("b"), vec![seen(10, 3), seen(11, 2)]);
    });
    assert_eq!(found, [ViolationKind::Wrong]);
}

#[test]
fn an_answer_that_is_none_of_the_service_is_found() {
    let reply = Reply::Other("500 Internal Server Error".to_owned());
    let found = after(|history, _| history.answers.push(answer(1, "a", reply)));
    assert_eq!(found, [ViolationKind::Wrong]);
}
