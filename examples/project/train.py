"""Train a logistic regression and log it: parameters, metrics, the model with its signature.

`mlflow run` starts it, makes its run, and says in the environment which run and server to log to.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from urllib.parse import urlsplit

PENALTIES = ("l1", "l2")
ACCOUNT = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
HOW = "see README.md, `Before the first run`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--C", default="1.0", help="inverse of the regularization's strength")
    parser.add_argument("--penalty", default="l2", help=" or ".join(PENALTIES))
    arguments = parser.parse_args()
    refuse(what_is_missing())
    import mlflow  # takes seconds: what is missing is said before

    refuse(what_the_server_says())
    with mlflow.start_run():  # the run of `mlflow run`; it ends as FAILED if this block raises
        refuse(what_is_wrong(arguments.C, arguments.penalty))
        train(float(arguments.C), arguments.penalty)


def refuse(fault: str) -> None:
    """End with one line, if there is a fault."""
    if fault:
        raise SystemExit(f"train.py: {fault}")


def what_is_missing() -> str:
    """What a client of the server has to set, and this process has not."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if urlsplit(uri).scheme not in ("http", "https"):
        return f"MLFLOW_TRACKING_URI is no server's address ({uri or 'not set'}): set it; {HOW}"
    missing = [name for name in ACCOUNT if not os.environ.get(name)]
    if len(missing) == 1:
        return f"{missing[0]} is not set, but its counterpart is: set both; {HOW}"
    ca = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH", "")
    if ca and not Path(ca).is_file():
        return f"MLFLOW_TRACKING_SERVER_CERT_PATH names {ca}, which is not there; {HOW}"
    return ""


def what_the_server_says() -> str:
    """Why the server does not let this process in, or ""."""
    import mlflow
    from mlflow.exceptions import MlflowException

    given = os.environ.get(RETRIES)
    os.environ[RETRIES] = given or "3"  # this question is for now, and not for some minutes
    try:
        mlflow.MlflowClient().search_experiments(max_results=1)
    except MlflowException as error:
        if "401" in str(error):
            are = "wrong" if os.environ.get(ACCOUNT[0]) else "not set, and the server asks for them"
            return f"{' and '.join(ACCOUNT)} are {are}; {HOW}"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return f"the server's CA is not known: set MLFLOW_TRACKING_SERVER_CERT_PATH; {HOW}"
        return f"{os.environ['MLFLOW_TRACKING_URI']} does not answer: {first_line(error)}"
    finally:
        if not given:
            del os.environ[RETRIES]
    return ""


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]


def what_is_wrong(c: str, penalty: str) -> str:
    """What is wrong with the parameters, or ""."""
    if penalty not in PENALTIES:
        return f"penalty is {penalty!r}, but must be {' or '.join(PENALTIES)}"
    try:
        is_positive = 0 < float(c) < float("inf")
    except ValueError:
        is_positive = False
    return "" if is_positive else f"C is {c!r}, but must be a number greater than 0"


def train(c: float, penalty: str) -> None:
    """Train on data that comes with scikit-learn. `mlflow run` has logged C and penalty already."""
    import mlflow
    from mlflow.models import infer_signature
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, log_loss
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    seen, kept, seen_labels, kept_labels = train_test_split(
        features, labels, test_size=0.3, random_state=1, stratify=labels
    )
    regression = LogisticRegression(
        C=c, penalty=penalty, solver="liblinear", max_iter=1000, random_state=1
    )
    model = make_pipeline(StandardScaler(), regression)
    model.fit(seen, seen_labels)
    probabilities = model.predict_proba(kept)
    predicted = model.predict(kept)
    mlflow.log_params({"solver": "liblinear", "rows": len(seen)})
    mlflow.log_metrics(
        {
            "accuracy": float(accuracy_score(kept_labels, predicted)),
            "log_loss": float(log_loss(kept_labels, probabilities)),
        }
    )
    mlflow.sklearn.log_model(
        model, name="model", signature=infer_signature(kept, predicted), input_example=kept.head(2)
    )
    print(f"accuracy {accuracy_score(kept_labels, predicted):.3f} with C={c} penalty={penalty}")


if __name__ == "__main__":
    main()
