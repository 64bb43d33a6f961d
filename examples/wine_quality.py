"""Train an ElasticNet on wine data, log it, register it, and use what was registered.

Set what `invoke client-env` prints, then run it with Python, MLflow, pandas and scikit-learn. The
data comes with scikit-learn: nothing is downloaded.
"""

import mlflow
import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.linear_model import ElasticNet
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import train_test_split

NAME = "ElasticnetWineModel"
ALPHA, L1_RATIO = 0.05, 0.5

features, quality = load_wine(as_frame=True, return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(
    features.astype(float), quality.astype(float), random_state=40
)

mlflow.set_experiment("wine_quality")
with mlflow.start_run() as run:
    model = ElasticNet(alpha=ALPHA, l1_ratio=L1_RATIO, random_state=42).fit(train_x, train_y)
    predicted = model.predict(test_x)
    mlflow.log_params({"alpha": ALPHA, "l1_ratio": L1_RATIO})
    mlflow.log_metrics(
        {
            "rmse": float(np.sqrt(mean_squared_error(test_y, predicted))),
            "mae": float(mean_absolute_error(test_y, predicted)),
            "r2": float(r2_score(test_y, predicted)),
        }
    )
    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        registered_model_name=NAME,
        signature=infer_signature(train_x, model.predict(train_x)),
    )

version = logged.registered_model_version
registered = mlflow.sklearn.load_model(f"models:/{NAME}/{version}")
same = "as" if np.allclose(registered.predict(test_x), predicted) else "NOT as"
print(f"run {run.info.run_id}: version {version} of {NAME} predicts {same} the trained model does")
