"""The tests of tricks share networks of other people, and short trainings with and without tricks."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import cross_entropy
from training_helpers import CLASSES, FEATURES, RULES

from sparsekit.train import training
from sparsekit.tricks import begin


class Functional(nn.Module):
    """An MLP that calls relu in three ways as a function, two of them in place."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(FEATURES, 16), nn.Linear(16, 12)
        self.fc3, self.head = nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, x):
        x = functional.relu(self.fc1(x), inplace=True)
        x = torch.relu(self.fc2(x))
        x = self.fc3(x)
        x.relu_()
        return self.head(x)


class Undecided(Functional):
    """Its forward depends on the numbers, so it cannot be traced."""

    def forward(self, x):
        return super().forward(x) if x.abs().sum() >= 0 else self.head(self.fc3(torch.relu(self.fc2(self.fc1(x)))))


class Overwriting(nn.Module):
    """An in-place ReLU whose input is read again afterwards, when it must have been overwritten."""

    def __init__(self):
        super().__init__()
        self.fc1, self.relu, self.fc2 = (
            nn.Linear(FEATURES, FEATURES),
            nn.ReLU(inplace=True),
            nn.Linear(FEATURES, CLASSES),
        )

    def forward(self, x):
        x = self.fc1(x)
        y = self.relu(x)
        return self.fc2(x) + self.fc2(y)


def seeded(make, *args, **settings):
    """Return what a function makes from random numbers that are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(*args, **settings)


def train_with(model, tricks, batches, **settings):
    """Begin and train, then return model and optimizer."""
    model = begin(model, tricks)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return train(model, tricks, batches, optimizer=optimizer, **settings)


def train(model, tricks, batches, *, optimizer, rule=RULES["set"], first_step=0):
    """Train by the visible loop, then return model and optimizer."""
    for _ in training(model, optimizer, batches, cross_entropy, rule, tricks=tricks, first_step=first_step):
        pass
    return model, optimizer


def kinds_of(model):
    """Return the class of every module, by name."""
    return {name: type(module) for name, module in model.named_modules()}
