"""Holt-Winters beside our forecast; in an environment of its own, because it needs statsmodels.

Standard input: days as JSON, each {"past": hourly spend of whole days, oldest first; "today": 24
hours}. Standard output: for each day its total as foretold after 1, 2, … 23 hours. With one past
day, which has no season to learn, that is the seasonal naive forecast: the rest as yesterday.
"""

import json
import sys
import warnings

from statsmodels.tsa.exponential_smoothing.ets import ETSModel

KIND = {"error": "add", "seasonal": "add", "seasonal_periods": 24}


def foretold(past: list[float], today: list[float]) -> list[float]:
    """ETS(A,N,A): its parameters from the past, its state from every hour since."""
    if len(past) < 48:
        return [sum(today[:hour]) + sum(past[hour - 24 :]) for hour in range(1, 24)]
    learnt = ETSModel(past, **KIND).fit(disp=False, maxiter=200).params
    totals = []
    for hour in range(1, 24):
        now = ETSModel(past + today[:hour], **KIND).smooth(learnt)
        rest = [max(spend, 0.0) for spend in now.forecast(24 - hour)]
        totals.append(sum(today[:hour]) + sum(rest))
    return totals


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    json.dump([foretold(**day) for day in json.load(sys.stdin)], sys.stdout)
