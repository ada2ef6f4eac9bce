//! ActionCache, its backends and decorators.
