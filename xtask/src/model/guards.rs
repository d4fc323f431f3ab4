//! The guards of the cache policy and of ingestion that the model must miss when they are gone.

use anyhow::{Result, bail};

use super::Cache;

/// One guard, and how it is taken out: one piece of a file, replaced by another that compiles.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) name: &'static str,
    /// The cache whose own guard it is.
    pub(super) only_over: Option<Cache>,
    pub(super) file: &'static str,
    /// Stands in the file once.
    whole: &'static str,
    without: &'static str,
}

impl Guard {
    /// The text of its file, without it.
    pub(super) fn taken_out_of(&self, text: &str) -> Result<String> {
        match text.matches(self.whole).count() {
            1 => Ok(text.replacen(self.whole, self.without, 1)),
            count => bail!(
                "the guard {} stands {count} times in {}; mend xtask/src/model/guards.rs",
                self.name,
                self.file
            ),
        }
    }
}

const COHERENCE: &str = "crates/order-domain/src/use_cases/coherence.rs";
const FOLLOWER: &str = "crates/order-domain/src/use_cases/log_follower.rs";
const SERVICE: &str = "crates/order-domain/src/use_cases/order_service.rs";
const BATCH_STORE: &str = "crates/order-domain/src/use_cases/batch_store.rs";
const INGESTOR: &str = "crates/order-domain/src/use_cases/ingestor.rs";

const fn guard(name: &'static str, file: &'static str, whole: &'static str, without: &'static str) -> Guard {
    Guard {
        name,
        only_over: None,
        file,
        whole,
        without,
    }
}

/// Where the database itself keeps a guard, its stand-in in memory does, and is what the model runs on.
pub(super) const GUARDS: &[Guard] = &[
    // What is stored.
    guard(
        "revision",
        "crates/order-domain/src/testing/memory/store.rs",
        "Some((by, _)) if *by >= revision =>",
        "Some((by, _)) if *by == revision =>",
    ),
    guard(
        "time-leads",
        "crates/order-domain/src/revision.rs",
        "    pub published_at: i64,
    /// The message's sequence in its stream; at most `i64::MAX`, so that it fits a `bigint`.
    pub sequence: u64,",
        "    pub sequence: u64,
    /// Second.
    pub published_at: i64,",
    ),
    guard(
        "newest-of-batch",
        "crates/order-domain/src/batch.rs",
        "b.revision.cmp(&a.revision)",
        "a.revision.cmp(&b.revision)",
    ),
    guard(
        "behind-the-clock",
        BATCH_STORE,
        "if revised.revision.is_behind_the_clock_of(by) {",
        "if false && revised.revision.is_behind_the_clock_of(by) {",
    ),
    guard(
        "older-after-rejection",
        BATCH_STORE,
        "let older = aside.superseded.extract_if(.., is_older).collect();",
        "let older = aside.superseded.extract_if(.., |it| false && is_older(it)).collect();",
    ),
    guard(
        "unknown-is-redone",
        BATCH_STORE,
        "Err(error) => self.health.ingestion_paused(&error),",
        "Err(error) => {
                    self.health.ingestion_paused(&error);
                    return Ok(Vec::new());
                }",
    ),
    guard(
        "ack-after-commit",
        INGESTOR,
        "messages.into_iter().for_each(|message| work.add(Read::new(message)));",
        "let tokens: Vec<AckToken> = messages.iter().map(|message| message.token.clone()).collect();
                        messages.into_iter().for_each(|message| work.add(Read::new(message)));
                        subscription.acknowledge(&tokens, self.settings.acknowledge_within).await;",
    ),
    guard(
        "tokens-forgotten",
        INGESTOR,
        "            work.forget_tokens();
            stop.run",
        "            stop.run",
    ),
    // What may be put into the cache.
    guard(
        "stamp",
        COHERENCE,
        "self.stamps[ticket.stripe].load(SeqCst) == ticket.stamp",
        "self.stamps[ticket.stripe].load(SeqCst) >= ticket.stamp",
    ),
    guard(
        "stamp-before-snapshot",
        SERVICE,
        "coherence.keep(&ticket, &uid, found.as_ref());",
        "coherence.keep(&coherence.begin_fill(&uid), &uid, found.as_ref());",
    ),
    guard(
        "stamp-of-absence",
        COHERENCE,
        "&& absence.stamp == self.stamps[self.stripe(uid)].load(SeqCst)",
        "&& absence.stamp <= self.stamps[self.stripe(uid)].load(SeqCst)",
    ),
    guard(
        "warm-up-collects",
        COHERENCE,
        ".is_some_and(|changed| !changed.contains(&uid))",
        ".is_some_and(|changed| changed.len() < usize::MAX)",
    ),
    guard(
        "own-put-by-follower",
        BATCH_STORE,
        "StoreOutcome::Stored => stored += 1,",
        "StoreOutcome::Stored => {
                    stored += 1;
                    let document = revised.order.document(revised.revision);
                    self.coherence.cache().put_if(document, &|| true);
                }",
    ),
    guard(
        "offer-of-this-revision",
        COHERENCE,
        "self.remove(uid).filter(|document| document.revision == revision)",
        "self.remove(uid)",
    ),
    guard(
        "offers-retracted",
        BATCH_STORE,
        "self.coherence.retract(&revised.order.order_uid);",
        "",
    ),
    guard(
        "reset-bumps-stamps",
        COHERENCE,
        "        self.lease.end();
        self.bump_all_stamps();",
        "        self.lease.end();",
    ),
    guard(
        "ahead-doubted",
        FOLLOWER,
        "if std::mem::take(&mut place.was_lost) {",
        "if false && std::mem::take(&mut place.was_lost) {",
    ),
    guard(
        "own-commit-leads-on",
        FOLLOWER,
        "if logged.previous == at {",
        "if logged.cursor != at {",
    ),
    guard(
        "reset-voids-warm-up",
        COHERENCE,
        "        *lock(&self.collecting) = None;
        lock(&self.offers).clear();
        self.cache.clear();",
        "        lock(&self.offers).clear();
        self.cache.clear();",
    ),
    guard(
        "head-before-reset",
        FOLLOWER,
        "            let head = self.within_deadline(self.log.head()).await?;
            self.coherence.reset();",
        "            self.coherence.reset();
            let head = self.within_deadline(self.log.head()).await?;",
    ),
    Guard {
        only_over: Some(Cache::Moka),
        ..guard(
            "nothing-older-put",
            "crates/order-moka/src/cache.rs",
            "held.generation == generation && held.document.revision > document.revision",
            "held.generation > generation && held.document.revision > document.revision",
        )
    },
    // When the cache may be believed.
    guard(
        "lease",
        COHERENCE,
        "if age < self.duration {",
        "if age < self.duration * 1_000 {",
    ),
    guard(
        "lease-from-beginning",
        FOLLOWER,
        "self.coherence.extend_lease(began);",
        "self.coherence.extend_lease(Instant::now());",
    ),
    guard(
        "lease-read-before-cache",
        COHERENCE,
        "        let proof = self.lease.proof();
        match (self.cache.get(uid.as_str()), proof) {",
        "        let held = self.cache.get(uid.as_str());
        match (held, self.lease.proof()) {",
    ),
    guard(
        "log-before-lease",
        FOLLOWER,
        "                for entry in entries {",
        "                self.coherence.extend_lease(began);
                for entry in entries {",
    ),
    guard(
        "log-complete-before-lease",
        FOLLOWER,
        "                if !complete {",
        "                if !complete {
                    self.coherence.extend_lease(began);",
    ),
    guard(
        "join-within",
        SERVICE,
        "read.began.elapsed() < self.settings.join_within",
        "read.began.elapsed() < self.settings.deadline",
    ),
    guard(
        "unproven-only-when-lost",
        SERVICE,
        "Err(_) if is_lost() => {}",
        "Err(FindError::Unavailable) => {}",
    ),
];

#[cfg(test)]
mod tests {
    use xtask::folders;

    use super::*;

    /// Otherwise the list would rot as the code changes.
    #[test]
    fn each_guard_stands_where_the_list_says_and_only_there() {
        for guard in GUARDS {
            let text = std::fs::read_to_string(folders::project().join(guard.file)).expect(guard.file);
            let without = guard.taken_out_of(&text).unwrap();
            assert_ne!(without, text, "{}", guard.name);
            assert_eq!(
                GUARDS.iter().filter(|other| other.name == guard.name).count(),
                1,
                "{}",
                guard.name
            );
        }
    }

    #[test]
    fn a_guard_that_is_not_found_is_said() {
        let fault = GUARDS[0].taken_out_of("nothing of the kind").unwrap_err();
        assert!(fault.to_string().contains("stands 0 times"), "{fault}");
    }
}
