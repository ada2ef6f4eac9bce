//! The bot: one session of the Remote Workers API with as many leases as the worker has places.
//!
//! [`ledger`] knows the leases (pure), [`session`] is the conversation with the server, [`Fate`] says whether
//! the worker wants work, [`Drain`] whether the grid wants it to have any. The module refuses to know what an action is: `execute` does.

mod call;
mod drain;
mod identity;
pub mod ledger;
pub mod session;

pub use drain::Drain;
pub use identity::Identity;
pub use session::Bot;

use grid_proto::rwapi::BotStatus;

/// What the worker tells the server about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It takes work.
    Healthy,
    /// It takes none until it is well again; why, for logs and metrics.
    Unhealthy(String),
    /// It takes no more, finishes what it has, and goes. With `reboot` the machine goes too.
    Leaving {
        /// Whether the machine is about to go.
        reboot: bool,
    },
    /// Its time to finish is over: what still runs is given back.
    GivingBack,
}

impl Fate {
    /// The status of a session.
    #[must_use]
    pub const fn status(&self) -> BotStatus {
        match self {
            Self::Healthy => BotStatus::Ok,
            Self::Unhealthy(_) => BotStatus::Unhealthy,
            Self::Leaving { reboot: true } => BotStatus::HostRebooting,
            Self::Leaving { reboot: false } | Self::GivingBack => BotStatus::BotTerminating,
        }
    }

    /// Whether the worker ends once it has no leases.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Leaving { .. } | Self::GivingBack)
    }
}
