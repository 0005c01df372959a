"""A program such as an agent writes: read a data set, compute, write a report.

It runs inside the sandbox, with nothing but Python's standard library.
"""

import csv
import statistics
import sys
from collections import defaultdict

temperatures: dict[str, list[float]] = defaultdict(list)
rain: dict[str, float] = defaultdict(float)
months: dict[tuple[str, str], list[float]] = defaultdict(list)
skipped = 0

for row in csv.DictReader(sys.stdin):
    rain[row["city"]] += float(row["rain_mm"])
    if not row["temperature_c"]:
        skipped += 1
        continue
    value = float(row["temperature_c"])
    temperatures[row["city"]].append(value)
    months[row["city"], row["date"][:7]].append(value)

with open("/root/report.md", "w") as report:
    report.write("# Weather report\n\n")
    report.write("| city | mean °C | spread | hottest month | rain mm |\n|---|---|---|---|---|\n")
    for city in sorted(temperatures, key=lambda c: -statistics.mean(temperatures[c])):
        values = temperatures[city]
        hottest = max((statistics.mean(v), month) for (c, month), v in months.items() if c == city)
        report.write(
            f"| {city} | {statistics.mean(values):.1f} | {statistics.stdev(values):.1f} "
            f"| {hottest[1]} ({hottest[0]:.1f}) | {rain[city]:.0f} |\n"
        )
    report.write(f"\n{skipped} measurements had no temperature and were left out.\n")
print(f"{sum(map(len, temperatures.values()))} measurements read, report written")
