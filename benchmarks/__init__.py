"""Measurements, one file per question: ``python -m benchmarks`` runs all and renders the tables of ``docs/``."""

from __future__ import annotations

#: Benchmark -> the question it answers, in the order in which they run.
QUESTIONS = {
    "differences": "What does the critic cost on every perturbed frame, against batched torch and a loop over pixels?",
    "sampling": "How fast are double Poisson frames drawn, against NumPy and torch?",
    "psi": "How fast is the operator, against what scipy, torch, pylops and sigpy give?",
    "critic": "What does the critic's training step spend its time on, and what makes it faster?",
    "solver": "How is the time of a whole solver iteration split?",
    "estimators": "Which estimator of the critic's gradient has the smallest error in a given time?",
    "resources": "What does every CUDA kernel take of a card, by the compiler?",
    "pulls": "Are the errors that the estimates of the camera and the PSF state those that they make?",
    "drift": "How well is a sample that moves found and followed?",
    "likelihood": "What does the full likelihood win over mean and covariance, and what does it cost?",
    "trained_critic": "How much of what mean and covariance leave does a trained critic find?",
    "evidence_map": "Is the significance of a gap true, and how near is it to what frames can tell?",
    "memory": "Does every method keep within the memory budget that it was given?",
    "interop": "What do the wrappers for other toolkits add to the time of the operator?",
    "company": "What becomes of calls when other processes take every core?",
    "whole": "What does a whole run of the default method take, beside an earlier revision and on a large field?",
}

#: Benchmarks that take longer than ten minutes together: they run where they are named.
LONG = ("pulls", "drift", "likelihood", "trained_critic", "evidence_map", "whole")

#: Experiments with a command of their own (``python -m benchmarks.paper``, ``python -m benchmarks.paper.widths``, ``.evidence``
#: and ``.reference``, ``python -m benchmarks.real``); their tables are rendered in the same way.
STUDIES = {
    "paper": "What does the library resolve, how faithfully, and beside what one would do otherwise?",
    "widths": "What does a PSF that is too narrow or too wide do, and what do covariances say of its width?",
    "planned": "What does the plan of a recording promise, and what do the methods resolve?",
    "evidence": "Do a pair's frames hold that there are two lines, whatever the method?",
    "reference": "What are second moments worth on small fields, and how much of it does the critic win?",
    "zoo": "Does the library hold on scenes drawn at random over what users vary, beside what one would do otherwise?",
    "zoo-2": "The same on scenes by which no number of the library was chosen",
    "zoo-auto": 'The development scenes of the zoo with method="auto"',
    "zoo-2-auto": 'Scenes by which no number of the library was chosen, with method="auto"',
    "faults": "What is lost, mixed or wrong in silence when files, folders, signals, disks or arguments are bad?",
    "mutants": "Of small changes of the code, how many do the tests notice?",
    "symmetry": "Is the image of a mirrored, transposed or shifted stack the mirrored, transposed or shifted image?",
    "real": "What does the library make of recorded stacks, beside what one would do otherwise?",
}
