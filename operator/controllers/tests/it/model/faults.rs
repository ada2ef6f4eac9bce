//! What can go wrong with a request, by a seed.

use super::store::Refusal;

/// A sequence of random numbers that a seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    /// True so many times of a hundred.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What goes wrong with one request.
pub(crate) enum Fault {
    /// It is refused, and nothing is done.
    Refused(Refusal),
    /// It is done, and the answer is lost.
    AnswerLost,
    /// Someone else writes just before.
    Overtaken,
}

/// Faults at random.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    chance: Chance,
    percent: usize,
}

impl Faults {
    /// So many of a hundred requests go wrong.
    pub(crate) fn new(seed: u64, percent: usize) -> Self {
        Self { chance: Chance::new(seed), percent }
    }

    pub(super) fn next(&mut self) -> Option<Fault> {
        if !self.chance.percent(self.percent) {
            return None;
        }
        Some(match self.chance.below(5) {
            0 => Fault::Refused(Refusal::new(429, "TooManyRequests", "slow down")),
            1 => Fault::Refused(Refusal::new(500, "InternalError", "something broke")),
            2 => Fault::Refused(Refusal::new(503, "ServiceUnavailable", "starting")),
            3 => Fault::AnswerLost,
            _ => Fault::Overtaken,
        })
    }
}
