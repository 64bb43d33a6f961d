"""MLflow artifacts in HDFS, with Kerberos and without a JVM; see repository.py."""
