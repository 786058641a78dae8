//! A disk that lies.
