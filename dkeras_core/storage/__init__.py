"""File systems behind one protocol: WebHDFS, Hadoop through Spark's JVM, local folders."""
