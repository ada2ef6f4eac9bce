//! Messages and services of every protocol that the grid speaks.
