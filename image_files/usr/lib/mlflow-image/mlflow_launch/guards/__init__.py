"""What this image's server does beyond MLflow's own: durable artifacts, stricter doors.

Each module changes functions of one MLflow module once that is imported. __main__.py does it for
the launcher's own server, stock_site/ for the processes of a stock `mlflow server`. The names that
they change stand in mlflow_names.py.
"""
