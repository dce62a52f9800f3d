//! A small Kafka client for the command line, tests and benchmarks; used against other brokers too.
