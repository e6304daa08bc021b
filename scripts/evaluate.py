"""Top-1 accuracy of a model: see «python scripts/evaluate.py --help»."""

from resnet8.cli.scripts import evaluate, main

if __name__ == "__main__":
    main(evaluate)
